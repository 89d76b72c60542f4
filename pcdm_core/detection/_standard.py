"""Features in units of their standard deviation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["location_and_scale", "location_and_scale_of_those_that_vary"]


def location_and_scale(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column of ``[N, D]``.

    Raises:
        ValueError: a column does not vary.
    """
    # Not by the deviation: that of a constant is often not 0 but what rounding left of its mean.
    constant = int((np.ptp(features, axis=0) == 0).sum())
    if constant:
        raise ValueError(f"{constant} of {features.shape[1]} features do not vary: nothing to compare with")
    return features.mean(axis=0), features.std(axis=0)


def location_and_scale_of_those_that_vary(
    features: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """As `location_and_scale`, with scale 1 for a column that does not vary, such as that of a dead channel.

    Raises:
        ValueError: no column varies.
    """
    varies = np.ptp(features, axis=0) > 0
    if not varies.any():
        raise ValueError("the features do not vary: nothing to compare with")
    return features.mean(axis=0), np.where(varies, features.std(axis=0), 1.0)
