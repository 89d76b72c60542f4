"""How often in-distribution images are flagged, beside how often they may be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import ArrayLike

from pcdm_core.detection._checks import check_counts, check_rate, finite_vector

__all__ = ["RealisedRate", "rate_tolerance", "realised_rate"]


@dataclass(frozen=True)
class RealisedRate:
    """A false-positive rate as it came out.

    Attributes:
        alpha: the rate that was wanted.
        rate: share of in-distribution test images with ``p <= alpha``.
        tolerance: how far `rate` may lie from `alpha` by chance, see `rate_tolerance`.
    """

    alpha: float
    rate: float
    tolerance: float

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        return asdict(self)


def realised_rate(p_values: ArrayLike, alpha: float, *, n_calibration: int) -> RealisedRate:
    """The share of in-distribution images that are flagged at `alpha`.

    Args:
        p_values: conformal p-values of in-distribution images that neither fitted nor calibrated the detector, ``[n]``.
        alpha: wanted rate, in (0, 1).
        n_calibration: calibration scores behind the p-values, at least 1.

    Raises:
        ValueError: `p_values` are empty, not one-dimensional or not finite, or a number is out of range.
    """
    p = finite_vector(p_values, "p-values")
    tolerance = rate_tolerance(alpha, n_calibration=n_calibration, n_test=p.size)
    return RealisedRate(alpha, float((p <= alpha).mean()), tolerance)


def rate_tolerance(alpha: float, *, n_calibration: int, n_test: int) -> float:
    """Two standard errors of a realised rate, ``2 sqrt(alpha (1 - alpha) (1 / n_calibration + 1 / n_test))``.

    Both samples are finite: the calibration images place the threshold, the test images count what exceeds it. About
    one in twenty sound calibrations lies further off; a rate beyond the tolerance calls for another look.

    Raises:
        ValueError: `alpha` is outside (0, 1), or a number of images is below 1.
    """
    check_rate(alpha, "alpha")
    check_counts(n_calibration=n_calibration, n_test=n_test)
    return 2 * math.sqrt(alpha * (1 - alpha) * (1 / n_calibration + 1 / n_test))
