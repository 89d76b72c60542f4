"""Where the integral over time is evaluated, and with which weights."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["gauss_legendre"]


@lru_cache(maxsize=64)
def gauss_legendre(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights on [0, 1]; the weights sum to 1.

    Time is what the learned schedule makes of it: equal times carry about equal shares of the bound's variance.
    """
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return (points + 1) / 2, weights / 2
