"""The decoder ``p(x | z_0)`` and the prior term: what the bound holds besides diffusion."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdm_core.model import Cascade, alpha_sigma

__all__ = ["prior", "reconstruction"]


def reconstruction(cascade: Cascade, images: Tensor, z0: tuple[Tensor, ...]) -> Tensor:
    """``-log p(x | z_0)``, in pixel space, once for all scales.

    The scales share gamma_0, so the pixels of ``h^-1(z_0) / alpha_0`` have independent noise and the decoder
    factorises:
    each pixel is a normalised Gaussian over the domain's own levels (VDM, equation 8).

    Args:
        cascade: The model.
        images: Integer images, ``[B, C, H, W]``.
        z0: Sampled ``z_0`` of every scale.

    Returns:
        Nats, ``[B]``, non-negative.
    """
    alpha, sigma = alpha_sigma(torch.tensor(cascade.config.gamma_min, dtype=torch.float64))
    noisy = cascade.transform.inverse(z0) / float(alpha)
    levels = torch.arange(cascade.config.levels, device=images.device)
    # In blocks of pixels: all levels of all pixels at once would take 256 times the memory of the batch.
    nats = torch.zeros(len(images), device=images.device, dtype=torch.float64)
    for pixels, target in zip(*(torch.split(a.flatten(1), 4096, dim=1) for a in (noisy, images)), strict=True):
        distance = pixels.double()[..., None] - (2 * levels.double() + 1) / cascade.config.levels + 1
        log_probability = (-0.5 * (distance * float(alpha / sigma)).square()).log_softmax(-1)
        nats -= log_probability.gather(-1, target.long()[..., None]).squeeze(-1).sum(1)
    return nats


def prior(cascade: Cascade, coefficients: tuple[Tensor, ...]) -> Tensor:
    """``KL( q(z_1^(s) | x) || N(0, P_s) )`` of each scale, nats, ``[B, S]``, non-negative."""
    alpha, sigma = alpha_sigma(torch.tensor(cascade.config.gamma_max, dtype=torch.float64))
    alpha2, sigma2 = float(alpha.square()), float(sigma.square())
    terms = []
    for scale, z in enumerate(coefficients, start=1):
        constant = cascade.transform.rank(scale) * (sigma2 - 1 - float(torch.log(sigma.square())))
        terms.append(0.5 * (alpha2 * z.double().square().flatten(1).sum(1) + constant))
    return torch.stack(terms, dim=1)
