"""Peers without a network: what pixels alone tell."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from pcdm_core.benchmark.material import Material
from pcdm_core.benchmark.rows import Row, isolation_forest, one_class_svm, outliers_of
from pcdm_core.detection import SpectrumDetector
from pcdm_core.transforms import HaarTransform

__all__ = ["PIXEL_ROWS", "wavelet_energies"]

# The variance of rounding to whole values: no band of an image is quieter, and no logarithm infinite.
_FLOOR: Final = 1 / 12


def wavelet_energies(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Log mean square of the Haar coefficients, by channel and subband.

    Args:
        images: uint8, ``[N, C, H, W]``.

    Returns:
        Natural logarithms of squared units of pixel value, ``[N, C (3 S - 2)]``: of S scales, each half the
        next, as long as both sides are even.
    """
    _, channels, height, width = images.shape
    scales = 1
    while height % 2**scales == 0 and width % 2**scales == 0:
        scales += 1
    coefficients = HaarTransform((channels, height, width), scales).forward(torch.from_numpy(images).double())
    # Channels of a scale are ordered by subband, then by colour.
    energies = [of_scale.square().mean((2, 3)) for of_scale in coefficients]
    return torch.log(torch.cat(energies, dim=1) + _FLOOR).numpy()


def _energies(material: Material) -> NDArray[np.float64]:
    return wavelet_energies(material.images)


def _pixels(material: Material) -> NDArray[np.float32]:
    return (material.images.reshape(len(material.images), -1) / 255.0).astype(np.float32)


PIXEL_ROWS: Final = (
    Row("wavelet energies, Mahalanobis", "pixels", outliers_of(SpectrumDetector, _energies)),
    Row("pixels, isolation forest", "pixels", outliers_of(isolation_forest, _pixels)),
    Row("pixels, one-class SVM", "pixels", outliers_of(one_class_svm, _pixels)),
)
"""What needs no network at all."""
