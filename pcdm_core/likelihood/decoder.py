"""The decoder ``p(x | z_0)`` and the prior term: what the bound holds besides diffusion."""

from __future__ import annotations

from math import ceil, sqrt

import torch
from torch import Tensor

from pcdm_core.model import Cascade, alpha_sigma

__all__ = ["lattice_position", "prior", "prior_term", "reconstruction", "reconstruction_by_pixel"]

# exp(-45) is 3e-20: terms that are smaller by more than that leave no trace in a float64 sum.
_VANISHES = 45.0


def reconstruction(cascade: Cascade, images: Tensor, z0: tuple[Tensor, ...]) -> Tensor:
    """``-log p(x | z_0)``, in pixel space, once for all scales.

    The scales share gamma_0, so the pixels of ``h^-1(z_0) / alpha_0`` have independent noise and the decoder
    factorises: each pixel is a Gaussian, normalised over the domain's own levels (VDM, equation 8).

    Args:
        cascade: The model.
        images: Integer images, ``[B, C, H, W]``.
        z0: Sampled ``z_0`` of every scale.

    Returns:
        Nats, ``[B]``, non-negative.
    """
    return reconstruction_by_pixel(cascade, images, z0).flatten(1).sum(1)


def reconstruction_by_pixel(cascade: Cascade, images: Tensor, z0: tuple[Tensor, ...]) -> Tensor:
    """The factors of `reconstruction`: nats of each channel of each pixel, ``[B, C, H, W]`` float64, non-negative."""
    levels = cascade.config.levels
    position, spread = lattice_position(cascade, z0)
    nearest = position.round().clamp(0, levels - 1)
    offset = position - nearest
    # The sum runs over all levels that can be seen in it beside the nearest one: at k steps from that, the exponent is
    # lower by (k^2 - k) / (2 spread^2) at least.
    reach = min(levels - 1, ceil(0.5 + sqrt(0.25 + 2 * _VANISHES * spread**2)))
    precision = 1 / spread**2
    slope, total = offset * precision, torch.zeros_like(offset)
    for k in range(-reach, reach + 1):
        outside = (nearest + k < 0) | (nearest + k >= levels)
        # Left out before the exponential: far outside the lattice, those of levels that are not there would overflow.
        exponent = k * slope - 0.5 * k**2 * precision  # of exp((offset^2 - (offset - k)^2) / (2 spread^2))
        total += exponent.masked_fill_(outside, float("-inf")).exp_()
    away = position - images.double()
    return 0.5 * precision * (away.square() - offset.square()) + total.log()


def lattice_position(cascade: Cascade, z0: tuple[Tensor, ...]) -> tuple[Tensor, float]:
    """Noisy pixels in units of the lattice step, level k at k, and the standard deviation of their noise in that unit.

    Args:
        cascade: The model.
        z0: Sampled ``z_0`` of every scale.

    Returns:
        float64, ``[B, C, H, W]``, and a positive number.
    """
    levels = cascade.config.levels
    alpha, sigma = (float(a) for a in alpha_sigma(torch.tensor(cascade.config.gamma_min, dtype=torch.float64)))
    noisy = cascade.transform.inverse(z0).double() / alpha
    return ((noisy + 1) * levels - 1) / 2, sigma / alpha * levels / 2


def prior(cascade: Cascade, coefficients: tuple[Tensor, ...]) -> Tensor:
    """``KL( q(z_1^(s) | x) || N(0, P_s) )`` of each scale, nats, ``[B, S]``, non-negative."""
    terms = [
        prior_term(cascade, z.double().square().flatten(1).sum(1), cascade.transform.rank(scale))
        for scale, z in enumerate(coefficients, start=1)
    ]
    return torch.stack(terms, dim=1)


def prior_term(cascade: Cascade, square: Tensor, dimensions: float | Tensor) -> Tensor:
    """``1/2 ( alpha_1^2 z^2 + d (sigma_1^2 - 1 - log sigma_1^2) )``: the prior term of d dimensions.

    Args:
        cascade: The model.
        square: Squared norm of the clean coefficients, or the share of it that belongs to each pixel.
        dimensions: d, of the same; broadcasts with it.

    Returns:
        Nats, float64, of the shape of ``square``.
    """
    alpha, sigma = alpha_sigma(torch.tensor(cascade.config.gamma_max, dtype=torch.float64))
    sigma2 = float(sigma.square())
    constant = dimensions * (sigma2 - 1 - float(torch.log(sigma.square())))
    return 0.5 * (float(alpha.square()) * square.double() + constant)
