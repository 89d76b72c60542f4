"""Judging a whole batch of images at once: the share of false alarms among those flagged.

Conformal p-values that share a calibration set are positively dependent (PRDS), so that Benjamini-Hochberg keeps its
promise for them: Bates, Candès, Lei, Romano, Sesia, "Testing for outliers with conformal p-values", 2023.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from pcdm_core.detection._checks import check_rate, finite_vector

__all__ = ["flag_batch", "largest_batch"]


def flag_batch(p_values: ArrayLike, rate: float) -> NDArray[np.bool_]:
    """Flag images of a batch so that, on average, at most a share `rate` of those flagged are in-distribution.

    Benjamini, Hochberg, "Controlling the false discovery rate", 1995.

    Args:
        p_values: conformal p-values of the batch, in [0, 1], ``[m]``.
        rate: wanted false discovery rate, in (0, 1).

    Returns:
        Whether each image is flagged, ``[m]``.

    Raises:
        ValueError: `p_values` are empty, not one-dimensional or outside [0, 1], or `rate` is out of range.
    """
    check_rate(rate, "rate")
    p = finite_vector(p_values, "p-values")
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"p-values must lie between 0 and 1, got {p.min():g} to {p.max():g}")
    return np.asarray(false_discovery_control(p) <= rate, dtype=np.bool_)


def largest_batch(n_calibration: int, rate: float) -> int:
    """The most images among which a lone outlier can still be flagged by `flag_batch`.

    A conformal p-value is never below ``1 / (n + 1)``, and the smallest of m is multiplied by m: however odd it is, a
    lone outlier among more than about ``rate (n + 1)`` images passes. 0: there is no batch in which it is seen. Several
    outliers help each other, so that they may be flagged in larger batches.

    Args:
        n_calibration: calibration scores behind the p-values, n >= 1.
        rate: wanted false discovery rate, in (0, 1).

    Raises:
        ValueError: `n_calibration` or `rate` is out of range.
    """
    check_rate(rate, "rate")
    if n_calibration < 1:
        raise ValueError(f"n_calibration must be at least 1, got {n_calibration}")
    smallest = 1 / (n_calibration + 1)
    # Decided by the very product that the procedure makes: the floor alone is off by one for some rates.
    size = math.floor(rate * (n_calibration + 1)) + 1
    while smallest * size > rate:
        size -= 1
    return size
