"""A Laplacian pyramid that is a tight frame."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from pcdm_core.transforms.base import Shape, Transform

__all__ = ["LaplacianTransform"]

# Daubechies' orthonormal low-pass filter with two vanishing moments; its even shifts are orthonormal.
_LOW_PASS = tuple(c / (4 * sqrt(2)) for c in (1 + sqrt(3), 3 + sqrt(3), 3 - sqrt(3), 1 - sqrt(3)))


@lru_cache(maxsize=32)
def _low_pass(size: int) -> Tensor:
    """Rows of the periodic low-pass filter at every second place, ``[size / 2, size]``, float64; orthonormal rows."""
    matrix = torch.zeros(size // 2, size, dtype=torch.float64)
    for row in range(size // 2):
        for tap, weight in enumerate(_LOW_PASS):
            matrix[row, (2 * row + tap - 1) % size] += weight
    return matrix


def _product(left: Tensor, image: Tensor, right: Tensor) -> Tensor:
    """``left image right`` in the image's own precision.

    Autocast would take matrix products, and them alone, in bfloat16, whose last digit is a whole step between levels.
    """
    with torch.autocast(image.device.type, enabled=False):
        return left @ image @ right


class LaplacianTransform(Transform):
    """Laplacian pyramid ``c = H f``, ``d = f - H^T c`` with a low-pass ``H`` whose rows are orthonormal.

    ``H H^T = I`` makes it a tight frame: ``||f||^2 = ||c||^2 + ||d||^2``. The usual 3x3 Gaussian does not have that
    property. The detail keeps the full array of the image, but lies in the range of ``I - H^T H``, whose rank is three
    quarters of it (LP-PCDM).
    """

    name: ClassVar[str] = "laplacian"

    def _reduce(self, image: Tensor) -> Tensor:
        rows, columns = (_low_pass(size).to(image) for size in image.shape[-2:])
        return _product(rows, image, columns.mT)

    def _expand(self, coarse: Tensor) -> Tensor:
        rows, columns = (_low_pass(2 * size).to(coarse) for size in coarse.shape[-2:])
        return _product(rows.mT, coarse, columns)

    def analyze(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Coarse image ``[B, C, H/2, W/2]`` and what it does not explain ``[B, C, H, W]``."""
        coarse = self._reduce(image)
        return coarse, image - self._expand(coarse)

    def synthesize(self, coarse: Tensor, detail: Tensor) -> Tensor:
        """Inverse of `analyze`; the adjoint on the space of details."""
        return detail + self._expand(coarse)

    def project_detail(self, detail: Tensor) -> Tensor:
        """``(I - H^T H) detail``."""
        return detail - self._expand(self._reduce(detail))

    def detail_shape(self, shape: Shape) -> Shape:
        """The detail is as large as the image."""
        return shape

    def detail_rank(self, shape: Shape) -> int:
        """Three quarters of the image's dimensions."""
        channels, height, width = shape
        return 3 * channels * (height // 2) * (width // 2)
