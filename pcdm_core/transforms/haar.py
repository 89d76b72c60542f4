"""The orthonormal Haar wavelet transform."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from pcdm_core.transforms.base import Shape, Transform

__all__ = ["HaarTransform"]


class HaarTransform(Transform):
    """Orthonormal two-dimensional Haar wavelets, any number of scales (W-PCDM).

    The coarse band is half the *sum* of each 2x2 block, not its mean: the mean is not orthonormal, and a likelihood
    computed with it would not be a probability.
    """

    name: ClassVar[str] = "haar"

    def analyze(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse band ``[B, C, H/2, W/2]`` and details ``[B, 3C, H/2, W/2]``: horizontal, vertical, diagonal."""
        a, b = image[..., 0::2, 0::2], image[..., 0::2, 1::2]
        c, d = image[..., 1::2, 0::2], image[..., 1::2, 1::2]
        upper_sum, upper_difference, lower_sum, lower_difference = a + b, a - b, c + d, c - d
        detail = (upper_sum - lower_sum, upper_difference + lower_difference, upper_difference - lower_difference)
        return (upper_sum + lower_sum) / 2, torch.cat(detail, dim=1) / 2

    def synthesize(self, coarse: Tensor, detail: Tensor) -> Tensor:
        """Inverse, and adjoint, of `analyze`."""
        horizontal, vertical, diagonal = detail.chunk(3, dim=1)
        upper, lower = coarse + horizontal, coarse - horizontal
        upper_difference, lower_difference = vertical + diagonal, vertical - diagonal
        # Rows of 2x2 blocks are interleaved by stacking: [B, C, h, 2 (row), w, 2 (column)].
        rows = torch.stack(
            (
                torch.stack((upper + upper_difference, upper - upper_difference), dim=-1),
                torch.stack((lower + lower_difference, lower - lower_difference), dim=-1),
            ),
            dim=-3,
        )
        batch, channels, height, _, width, _ = rows.shape
        return rows.reshape(batch, channels, 2 * height, 2 * width) / 2

    def detail_shape(self, shape: Shape) -> Shape:
        """Three bands at half the resolution."""
        channels, height, width = shape
        return 3 * channels, height // 2, width // 2

    def detail_rank(self, shape: Shape) -> int:
        """Three quarters of the image's dimensions."""
        channels, height, width = shape
        return 3 * channels * (height // 2) * (width // 2)

    def detail_bands(self) -> tuple[str, ...]:
        """Horizontal, vertical and diagonal details."""
        return ("horizontal", "vertical", "diagonal")
