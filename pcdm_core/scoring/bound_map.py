"""Where in the image the bits of the bound are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdm_core.likelihood import prior_term, reconstruction_by_pixel
from pcdm_core.scoring.prediction import Latents
from pcdm_core.scoring.scorer import CascadeScorer
from pcdm_core.scoring.units import Fidelity, Unit
from pcdm_core.transforms import Transform

__all__ = ["BoundMap", "bound_map", "dimensions_by_pixel", "squares_by_pixel"]


@dataclass(frozen=True, eq=False)
class BoundMap:
    """The bound of N images, shared out among their pixels; float64, bits per pixel (all channels together).

    Single values may be negative: of an estimate by random noise, with a control variate, only sums are near their
    means.

    Attributes:
        scales: Prior and diffusion term of each scale, coarse to fine, ``[N, S, H, W]``.
        reconstruction: Reconstruction term, ``[N, H, W]``.
    """

    scales: NDArray[np.float64]
    reconstruction: NDArray[np.float64]

    @property
    def bits(self) -> NDArray[np.float64]:
        """The whole bound, ``[N, H, W]``; sums to ``bits_per_dim * C H W`` of each image's score."""
        return np.asarray(self.scales.sum(1) + self.reconstruction)


@torch.inference_mode()
def bound_map(
    scorer: CascadeScorer,
    images: NDArray[np.uint8],
    settings: Fidelity | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> BoundMap:
    """Share the bound that `CascadeScorer.score` gives, with the same noise, out among pixels.

    ``h`` is an isometry, so a squared norm in scale s is that of its field in the image, ``||v||^2 = ||h_s^T v||^2``,
    and the field's square at a pixel, summed over channels, is that pixel's share. So are shared out the squared error
    ``||eps - eps_hat||^2``, the control variate's ``||eps||^2`` and the prior's ``||z||^2``; dimensions, of which there
    are ``rank(P_s)`` in all, by `dimensions_by_pixel`. The reconstruction term is one of pixels anyway.

    Args:
        scorer: The model.
        images: uint8, ``[N, C, H, W]``.
        settings: The scorer's own `fidelity` by default.
        progress: Called with the number of images done.

    Raises:
        ValueError: If the transform does not preserve volume, the settings ask for the flow, which is no bound, or the
            images are not uint8 of the model's shape.
    """
    transform = scorer.cascade.transform
    if not transform.volume_preserving:
        raise ValueError(
            f"no map of the bound with the {transform.name} transform: it does not preserve volume, so an error in a "
            "scale's coefficients is not as large as its image, and its scales explain the same pixels again; train a "
            "cascade with haar, laplacian or identity"
        )
    settings = scorer.fidelity if settings is None else settings
    if settings.method == "flow":
        raise ValueError("the map is one of the bound: use the method bound or certified, not flow")
    _, height, width = transform.image_shape
    nats = np.zeros((len(images), 1 + transform.scales, height, width))
    dimensions = [dimensions_by_pixel(transform, scale) for scale in range(1, transform.scales + 1)]
    for start in range(0, len(images), scorer.batch_size):
        # The very blocks and batches of `CascadeScorer.score`: the last digits of a network depend on them.
        block = nats[start : start + scorer.batch_size]
        for units in scorer.batches(scorer.plan_likelihood(images[start : start + scorer.batch_size], settings)):
            latents, scale = scorer.latents(units), units[0].scale
            if scale == 0:
                terms = _terms_without_network(scorer, latents, dimensions)
            else:
                terms = _diffusion_term(scorer, latents, units, dimensions[scale - 1])
            for unit, term in zip(units, terms.cpu().numpy(), strict=True):
                block[unit.index, slice(None) if scale == 0 else scale] += term
        if progress is not None:
            progress(start + len(block))
    bits = nats / (settings.replicates * log(2))
    return BoundMap(scales=bits[:, 1:], reconstruction=bits[:, 0])


def _terms_without_network(scorer: CascadeScorer, latents: Latents, dimensions: list[Tensor]) -> Tensor:
    """Reconstruction, then the prior term of each scale, nats, ``[B, 1 + S, H, W]``."""
    cascade = scorer.cascade
    terms = [reconstruction_by_pixel(cascade, latents.images, latents.z0).sum(1)]
    for scale, (z, share) in enumerate(zip(latents.coefficients, dimensions, strict=True), start=1):
        square = squares_by_pixel(cascade.transform, scale, z)
        terms.append(prior_term(cascade, square, share.to(square)))
    return torch.stack(terms, dim=1)


def _diffusion_term(scorer: CascadeScorer, latents: Latents, units: list[Unit], dimensions: Tensor) -> Tensor:
    """Share of each pixel in the diffusion terms of units of one scale, nats, ``[B, H, W]``."""
    prediction, scale = scorer.predict(latents, units), units[0].scale
    noise = prediction.noise
    error, noise = (
        squares_by_pixel(scorer.cascade.transform, scale, field)
        for field in (noise - prediction.predicted_noise, noise)
    )
    return prediction.term(error, noise, dimensions.to(noise))


def squares_by_pixel(transform: Transform, scale: int, z: Tensor) -> Tensor:
    """``sum_c (h_s^T z)^2``: a squared norm shared out among pixels.

    Args:
        transform: One that preserves volume.
        scale: 1 to S.
        z: Array of the scale, in the range of ``P_s``, ``[B, *shape(s)]``.

    Returns:
        ``[B, H, W]`` float64, non-negative; sums to ``||z||^2``.
    """
    places = range(1, transform.scales + 1)
    alone = tuple(z.double() if s == scale else z.new_zeros(len(z), *transform.shape(s)).double() for s in places)
    return transform.inverse(alone).square().sum(1)


def dimensions_by_pixel(transform: Transform, scale: int) -> Tensor:
    """``sum_c (h_s^T h_s)_pp``: how many of the scale's dimensions each pixel holds, ``[H, W]`` float64.

    White noise leaves just as much of its square at the pixel, in the mean. It sums to ``rank(P_s)``; the even share
    ``rank(P_s) / (H W)`` would do for Haar wavelets, but a longer low-pass filter has more weight on one of two pixels.
    """
    channels, height, width = transform.image_shape
    # Every scale is the same seen from places a whole number of its coarsest pixels apart.
    step = 2 ** (transform.scales - 1)
    impulses = torch.zeros(channels * step * step, channels, height, width, dtype=torch.float64)
    impulses[:, :, :step, :step] = torch.eye(len(impulses), dtype=torch.float64).view(-1, channels, step, step)
    squares = transform.forward(impulses)[scale - 1].square().flatten(1).sum(1)
    return squares.view(channels, step, step).sum(0).repeat(height // step, width // step)
