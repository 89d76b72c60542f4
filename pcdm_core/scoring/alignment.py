"""How what a network leaves unexplained lies to what it predicted."""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor

__all__ = ["alignments"]


def alignments(residual: Tensor, predicted: Tensor, bands: int) -> Tensor:
    """Cosines of the angles between the residual ``eps - eps_hat`` and the prediction ``eps_hat``.

    The best prediction is ``E[eps | z_t]``. Over images and noise, its residual is uncorrelated with all that can be
    computed from ``z_t``, such as the prediction at the same place or next to it. On images unlike those trained on,
    where the network takes noise for signal or signal for noise, it is not.

    Args:
        residual: Of one scale, ``[B, bands * C, H, W]``.
        predicted: Of the same shape.
        bands: Number of subbands, of C colours each.

    Returns:
        In [-1, 1], float64, ``[B, bands * C + bands]``: of each subband and colour component (mean colour first, then
        the differences of colours, see `colour_components`); then of each subband with the sums of the four neighbours
        in place of the prediction, those at the border repeated.
    """
    count, channels, *size = residual.shape
    left, guess = (a.double().reshape(count, bands, channels // bands, *size) for a in (residual, predicted))
    components = colour_components(channels // bands).to(residual.device)
    own = F.cosine_similarity(components @ left.flatten(3), components @ guess.flatten(3), dim=3)
    neighbour = F.cosine_similarity(left.flatten(2), neighbours(guess).flatten(2), dim=2)
    return torch.cat((own.flatten(1), neighbour), dim=1)


def colour_components(colours: int) -> Tensor:
    """Orthonormal rows, float64, ``[C, C]``: of RGB, grey, red less blue, and green less both; the discrete cosines."""
    order = torch.arange(colours, dtype=torch.float64)
    rows = torch.cos(pi / colours * order[:, None] * (order + 0.5))
    return rows / rows.square().sum(1, keepdim=True).sqrt()


def neighbours(fields: Tensor) -> Tensor:
    """Sums of the four neighbours in the last two dimensions of ``[B, bands, C, H, W]``, borders repeated."""
    padded = F.pad(fields.flatten(1, 2), (1, 1, 1, 1), mode="replicate")
    inner = slice(1, -1)
    rows = padded[..., :-2, inner] + padded[..., 2:, inner]
    columns = padded[..., inner, :-2] + padded[..., inner, 2:]
    return (rows + columns).view_as(fields)
