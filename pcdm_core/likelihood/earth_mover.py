"""The earth mover's distance that a squared error bounds, by Haar wavelets in linear time.

A field ``r`` with its mean taken off has a positive and a negative part of the same mass. The distance ``W(r)`` is the
least work, mass times way, that moves one onto the other; the unit of way is one pixel of the field, between pixel
centres. On fields of side N, for all mean-free ``r``,

    W(r)  <=  wavelet_earth_mover(r)  <=  N/2 sqrt(N^2 - 1) ||r||,

which puts constants to the claim that the training loss bounds an earth mover's distance (PCDM, theorem 5.1).
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from pcdm_core.transforms import HaarTransform

__all__ = ["earth_mover_bound", "wavelet_earth_mover"]


def wavelet_earth_mover(fields: Tensor) -> Tensor:
    """``sum_j 2^(-2j) sum_k |d_jk|`` with the orthonormal Haar coefficients ``d_jk`` (Shirdhonkar & Jacobs, 2008).

    Their weight ``2^(-j (s + n/2))`` with dimension ``n = 2`` and ``s = 1``, for way itself as the cost. ``2^(-j)`` is
    half the side of a wavelet's support in pixels, hence how far its two halves lie apart: j is 0 for the finest
    wavelets and falls by 1 each time they double in size.

    With these weights it is never below the exact distance: to move the halves of one wavelet onto each other takes
    ``2^(-2j)`` at most, and a sum of fields takes no more than its summands. The horizontal and vertical wavelets take
    just that. Nor is it above ``5N/2 - 3`` times the exact distance, which one pixel's mass takes that moves to the
    next across the middle line: Haar wavelets are not continuous, so the constant grows with the side.

    Args:
        fields: ``[B, C, N, N]``, N a power of two; every channel is a field of its own. Their means do not matter.

    Returns:
        Mass times pixels, ``[B, C]`` float64.

    Raises:
        ValueError: If the fields are not square images with a power of two as side.
    """
    if fields.ndim != 4:
        raise ValueError(f"expected fields [B, C, N, N], got the shape {tuple(fields.shape)}")
    batch, channels, height, width = fields.shape
    if height != width or height.bit_count() != 1:
        raise ValueError(f"the fields need equal sides that are a power of two, got {height}x{width}")
    distance = torch.zeros(batch, channels, dtype=torch.float64, device=fields.device)
    transform = HaarTransform((channels, height, width), scales=height.bit_length())
    # Down to a single pixel: that one is the mean, of no account here.
    _, *details = transform.forward(fields.double())
    for detail in details:
        half_support = height / (2 * detail.shape[-1])
        by_band = detail.abs().sum((2, 3)).view(batch, len(transform.detail_bands()), channels)
        distance += half_support**2 * by_band.sum(1)
    return distance


def earth_mover_bound(squared_error: Tensor, side: int) -> Tensor:
    """``N/2 sqrt(N^2 - 1) ||r||``: the most that `wavelet_earth_mover` can be, given the squared error alone.

    By Cauchy and Schwarz: ``N/2 sqrt(N^2 - 1)`` is the norm of the weights, and the coefficients have the norm of the
    field. A field whose coefficients are as large as their weights attains it.

    Args:
        squared_error: ``||r||^2`` of each field, of any shape.
        side: N.

    Returns:
        Mass times pixels, of the shape of ``squared_error``.
    """
    return 0.5 * side * sqrt(side**2 - 1) * squared_error.sqrt()
