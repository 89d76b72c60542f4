"""The exact denoiser of pixels that lie on a lattice."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["lattice_residual"]

# Beyond three quarters of a step the noise hides the lattice (relative effect below 1e-4): the residual is zero there.
_MAX_SIGMA = 0.75
_REACH = 3


def lattice_residual(pixels: Tensor, sigma: Tensor, levels: int) -> Tensor:
    r"""Distance of noisy pixels from their expected clean value, if every level were equally likely.

    A pixel is one of ``levels`` values ``(2k + 1) / levels - 1``. At little noise, that alone says most about the
    noise: ``E[sigma eps | u] = u - E[f | u]`` with ``f`` on the lattice. A network that sees wavelet coefficients
    cannot know it, because a single coefficient mixes four pixels, and pays up to half a bit in each dimension.

    Args:
        pixels: Noisy pixels ``u = f + sigma eps``, any shape.
        sigma: Standard deviation of their noise, broadcastable to ``pixels``.
        levels: Number of values that a clean pixel can take.

    Returns:
        ``u - E[f | u]``, of the shape of ``pixels``; zero where the noise is too strong to see the lattice.
    """
    step = 2.0 / levels
    # In units of the lattice step, level k sits at k.
    position = (pixels + 1.0) / step - 0.5
    relative = sigma / step
    nearest = position.round().clamp(0, levels - 1)
    offset = position - nearest
    weight_sum = torch.zeros_like(offset)
    mean = torch.zeros_like(offset)
    scale = -0.5 / relative.square()
    for k in range(-_REACH, _REACH + 1):
        outside = (nearest + k < 0) | (nearest + k > levels - 1)
        # The nearest level has the largest weight; taking it out keeps the exponentials in range. Levels that are not
        # there are left out before the exponential: far outside the lattice, theirs would overflow.
        exponent = scale * ((offset - k).square() - offset.square())
        weight = exponent.masked_fill(outside, float("-inf")).exp()
        weight_sum = weight_sum + weight
        mean = mean + k * weight
    residual = step * (offset - mean / weight_sum)
    return torch.where(relative < _MAX_SIGMA, residual, torch.zeros_like(residual))
