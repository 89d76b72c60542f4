"""Conformal p-values: false-positive rates that hold for a finite calibration set, whatever the scores are.

If the score of a new in-distribution image and the n calibration scores are exchangeable, the rank of the new one
is uniform, so ``P(p <= alpha) <= alpha`` for every alpha: a statement over the draw of the calibration set and the
image together (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Bates, Candès, Lei, Romano,
Sesia, "Testing for outliers with conformal p-values", 2023). Scores are higher for more OOD throughout.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcdm_core.detection._checks import check_rate, finite_array, finite_vector

__all__ = ["conformal_p_values", "conformal_threshold", "p_values_of_ascending"]


def conformal_p_values(calibration_scores: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """``p = (1 + #{calibration >= score}) / (n + 1)``: small where a score is higher than in-distribution scores are.

    Args:
        calibration_scores: in-distribution scores, any order, shape ``[n]`` with n >= 1.
        scores: scores to judge, any shape (also empty or a scalar).

    Returns:
        p-values in ``[1 / (n + 1), 1]``, of the shape of `scores`. A tie counts against the calibration score
        (``>=``), which can only make p larger.

    Raises:
        ValueError: a NaN or infinite value on either side (neither may pass for normal), or no calibration scores.
    """
    return p_values_of_ascending(_ascending(calibration_scores), scores)


def p_values_of_ascending(calibration: NDArray[np.float64], scores: ArrayLike) -> NDArray[np.float64]:
    """As `conformal_p_values`, of calibration scores that are known to be finite and ascending."""
    judged = finite_array(scores, "scores")
    at_least = calibration.size - np.searchsorted(calibration, judged, side="left")
    return np.asarray((1 + at_least) / (calibration.size + 1), dtype=np.float64)


def conformal_threshold(calibration_scores: ArrayLike, alpha: float) -> float:
    """The smallest t for which ``score >= t`` is the same decision as ``p <= alpha``, for every finite score.

    The smallest p that exists is ``1 / (n + 1)``, so n calibration scores can flag at `alpha` only if
    ``n >= 1 / alpha - 1`` (19 for 0.05, 99 for 0.01). With fewer the answer is +inf: nothing is ever flagged.

    Args:
        calibration_scores: in-distribution scores, any order, shape ``[n]`` with n >= 1.
        alpha: wanted false-positive rate, in (0, 1).

    Raises:
        ValueError: as `conformal_p_values`, or `alpha` outside (0, 1).
    """
    check_rate(alpha, "alpha")
    calibration = _ascending(calibration_scores)
    n = calibration.size
    # The largest k with k / (n + 1) <= alpha, decided by the very division that the p-value makes: floor(alpha (n + 1))
    # alone is off by one for some alpha (0.29 * 100 is 28.999...).
    k = math.floor(alpha * (n + 1)) + 1
    while k / (n + 1) > alpha:
        k -= 1
    if k == 0:
        return math.inf
    # p <= alpha  <=>  at most k - 1 calibration scores reach the score  <=>  the score exceeds the k-th largest.
    return math.nextafter(float(calibration[n - k]), math.inf)


def _ascending(calibration_scores: ArrayLike) -> NDArray[np.float64]:
    return np.sort(finite_vector(calibration_scores, "calibration scores"))
