"""What a likelihood takes: the units of each image."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from pcdm_core.likelihood import CALLS_PER_STEP, require_density
from pcdm_core.model import Cascade
from pcdm_core.scoring.units import Fidelity, Unit

__all__ = ["likelihood_units"]

# A backward pass takes about twice as long as the network call that it belongs to.
_BACKWARD_COST = 2.0


def likelihood_units(cascade: Cascade, digest: str, images: NDArray[np.uint8], settings: Fidelity) -> list[Unit]:
    """Units of the likelihood of images ``[N, C, H, W]``.

    Raises:
        ValueError: If the images are not uint8 of the model's shape, or the flow is asked of a transform that does not
            preserve volume.
    """
    shape, transform, flow = cascade.config.image_shape, cascade.transform, settings.method == "flow"
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise ValueError(f"expected uint8 images [N, {shape}], got {images.dtype} {images.shape}")
    # Steps of the flow share a batch whatever their number, as each image has a noise level of its own.
    kind: tuple[str | int, ...] = ()
    if settings.activations:
        kind = ("activations",)
    if flow:
        require_density(transform)
        kind = ("flow", settings.divergence, "grid" if settings.tolerance is None else str(settings.tolerance))
    # What needs no network is too little for a batch of its own, and goes along with the first scale; not with steps of
    # the flow, though, of which units of one bucket are expected to take equally many.
    first = 0 if flow else 1
    units = []
    for index, image in enumerate(images):
        for replicate in range(settings.replicates):
            units.append(Unit(index, image, 0, 0, replicate, settings, 0.01, (digest, first, *kind)))
            for scale in range(1, transform.scales + 1):
                cost = prod(transform.resolution(scale)) / prod(shape)
                cost *= _calls_of_step(transform.rank(scale), settings) if flow else 1.0
                bucket = (digest, scale, *kind)
                nodes = range(1 if flow else settings.nodes)
                units += [Unit(index, image, scale, node, replicate, settings, cost, bucket) for node in nodes]
    return units


def _calls_of_step(rank: int, settings: Fidelity) -> float:
    """What a solver step costs, in network calls."""
    backward = rank if settings.divergence == "exact" else 1
    return CALLS_PER_STEP * (1 + _BACKWARD_COST * backward)
