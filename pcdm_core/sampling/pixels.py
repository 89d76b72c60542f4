"""Pixels from latents: the decoder ``p(x | z_0)`` as a distribution to draw from."""

from __future__ import annotations

from math import ceil, sqrt

import torch
from torch import Tensor

from pcdm_core.likelihood import lattice_position
from pcdm_core.model import Cascade

__all__ = ["likeliest_pixels", "sample_pixels"]

# A level whose weight relative to the nearest one's is below exp(-40) is never chosen by a 53-bit uniform number.
_NEVER = 40.0


def likeliest_pixels(cascade: Cascade, z0: tuple[Tensor, ...]) -> Tensor:
    """The mode of ``p(x | z_0)``: the level nearest to each pixel.

    Args:
        cascade: The model.
        z0: Latents of every scale, ``[B, *shape(s)]``.

    Returns:
        uint8, ``[B, C, H, W]``, in [0, levels).
    """
    position, _ = lattice_position(cascade, z0)
    return position.round().clamp(0, cascade.config.levels - 1).to(torch.uint8)


def sample_pixels(cascade: Cascade, z0: tuple[Tensor, ...], uniform: Tensor) -> Tensor:
    """A draw of ``p(x | z_0)``: each pixel by itself, by inverting its distribution function.

    Args:
        cascade: The model.
        z0: Latents of every scale, ``[B, *shape(s)]``.
        uniform: Numbers in [0, 1), float64, ``[B, C, H, W]``.

    Returns:
        uint8, ``[B, C, H, W]``, in [0, levels).
    """
    position, spread = lattice_position(cascade, z0)
    # Image by image: at much noise every level of every pixel has a weight.
    rows = [_invert(*pair, spread, cascade.config.levels) for pair in zip(position, uniform, strict=True)]
    return torch.stack(rows).to(torch.uint8)


def _invert(position: Tensor, uniform: Tensor, spread: float, levels: int) -> Tensor:
    """Levels of one image, of the shape of ``position``."""
    nearest = position.round().clamp(0, levels - 1)
    # At k steps from the nearest level, the exponent is lower by (k^2 - k) / (2 spread^2) at least.
    reach = min(levels - 1, ceil(0.5 + sqrt(0.25 + 2 * _NEVER * spread**2)))
    candidates = nearest[..., None] + torch.arange(-reach, reach + 1, device=position.device)
    exponents = (candidates - position[..., None]).square() / (-2 * spread**2)
    inside = (candidates >= 0) & (candidates < levels)
    cumulative = exponents.masked_fill(~inside, float("-inf")).softmax(-1).cumsum(-1)
    passed = (cumulative <= uniform[..., None].to(position.device)).sum(-1)
    # The sum of all weights can come out as a little less than 1, and the uniform number lie between.
    return (nearest - reach + passed).clamp(max=levels - 1).minimum(nearest + reach)
