"""Whether one score tells in-distribution from OOD images better than another does, on the same images.

DeLong, DeLong, Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating characteristic
curves: a nonparametric approach", 1988, computed from midranks as in Sun, Xu, "Fast implementation of DeLong's
algorithm for comparing the areas under correlated receiver operating characteristic curves", 2014.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from pcdm_core.detection._checks import finite_vector

__all__ = ["AurocComparison", "compare_aurocs"]


@dataclass(frozen=True)
class AurocComparison:
    """DeLong's test of two scores on the same images.

    Attributes:
        first: AUROC of the first score, in [0, 1].
        second: AUROC of the second score, in [0, 1].
        difference: ``first - second``.
        stderr: standard error of the difference over the choice of images of both kinds; that both scores judge the
            same images is taken into account.
        p_value: two-sided, of the hypothesis that both scores have the same AUROC, by the normal approximation, which
            wants some dozens of images of each kind. 1 for no difference at all; None for a difference without a
            standard error (every image speaks for it alike), where the approximation has nothing to say.
    """

    first: float
    second: float
    difference: float
    stderr: float
    p_value: float | None

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, ready for JSON."""
        return asdict(self)


def compare_aurocs(
    first_in: ArrayLike, first_out: ArrayLike, second_in: ArrayLike, second_out: ArrayLike
) -> AurocComparison:
    """DeLong's test; scores are higher for more OOD, and each score may have its own unit.

    Args:
        first_in: first score of the in-distribution images, ``[n_in]`` with n_in >= 2.
        first_out: first score of the OOD images, ``[n_out]`` with n_out >= 2.
        second_in: second score of the same in-distribution images, in the same order.
        second_out: second score of the same OOD images, in the same order.

    Raises:
        ValueError: scores are not one-dimensional or not finite, the two scores are not of equally many images, or
            there are fewer than two images of a kind.
    """
    placed_in, placed_out = [], []
    for name, inside, outside in (("first", first_in, first_out), ("second", second_in, second_out)):
        of_in = finite_vector(inside, f"{name} scores of in-distribution images")
        of_out = finite_vector(outside, f"{name} scores of OOD images")
        for_in, for_out = _placements(of_in, of_out)
        placed_in.append(for_in)
        placed_out.append(for_out)
    for kind, (one, other) in (("in-distribution", placed_in), ("OOD", placed_out)):
        if one.size != other.size:
            raise ValueError(f"both scores must be of the same {kind} images, got {one.size} and {other.size}")
        if one.size < 2:
            raise ValueError(f"DeLong's test needs at least two {kind} images, got {one.size}")
    n_in, n_out = placed_in[0].size, placed_out[0].size
    pairs = 2 * n_in * n_out
    first, second = (float(placed.sum()) / pairs for placed in placed_out)
    difference = float((placed_out[0] - placed_out[1]).sum()) / pairs
    # The variance of the difference at once, not from three covariances: it cannot come out negative.
    variance = float(np.var(placed_out[0] - placed_out[1], ddof=1)) / (2 * n_in) ** 2 / n_out
    variance += float(np.var(placed_in[0] - placed_in[1], ddof=1)) / (2 * n_out) ** 2 / n_in
    stderr = math.sqrt(variance)
    return AurocComparison(first, second, difference, stderr, _two_sided(difference, stderr))


def _placements(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """For each image, twice the number of images of the other kind that are on its right side, ties half.

    Twice a midrank is a whole number, so all sums of these are exact.
    """
    ranks = 2 * rankdata(np.concatenate([inside, outside]))
    below_out = ranks[inside.size :] - 2 * rankdata(outside)
    below_in = ranks[: inside.size] - 2 * rankdata(inside)
    return 2 * outside.size - below_in, below_out


def _two_sided(difference: float, stderr: float) -> float | None:
    if difference == 0:
        return 1.0
    return None if stderr == 0 else float(2 * norm.sf(abs(difference) / stderr))
