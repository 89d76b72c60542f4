"""Plain down-sampling: the usual, not volume-preserving cascade, kept for ablation."""

from __future__ import annotations

from math import prod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from pcdm_core.transforms.base import Shape, Transform

__all__ = ["DownsampleTransform"]


class DownsampleTransform(Transform):
    """Every scale is a whole image: block means below, the image itself on top.

    The scales overlap, so their densities do not multiply to the density of the image. What is left is a valid but
    loose bound: the coarse images are auxiliary latents, and the finest scale explains all pixels again.
    """

    name: ClassVar[str] = "downsample"
    volume_preserving: ClassVar[bool] = False
    coarse_share: ClassVar[float] = 0.0
    coarse_gain: ClassVar[float] = 1.0

    def analyze(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Block means ``[B, C, H/2, W/2]``, and the image itself as its own detail."""
        return avg_pool2d(image, 2), image

    def synthesize(self, coarse: Tensor, detail: Tensor) -> Tensor:
        """The detail is the whole image already."""
        return detail

    def detail_shape(self, shape: Shape) -> Shape:
        """The detail is the image."""
        return shape

    def detail_rank(self, shape: Shape) -> int:
        """All dimensions of the image, again."""
        return prod(shape)

    @property
    def noise_dimensions(self) -> int:
        """More than the image has: one set for each scale."""
        return sum(self.rank(scale) for scale in range(1, self.scales + 1))

    def noise(self, white: Tensor) -> tuple[Tensor, ...]:
        """Independent noise for each scale; the block means of image noise would not be white."""
        shapes = [self.shape(scale) for scale in range(1, self.scales + 1)]
        parts = torch.split(white, [prod(shape) for shape in shapes], dim=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))
