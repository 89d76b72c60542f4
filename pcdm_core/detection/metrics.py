"""How well scores tell in-distribution from OOD images, each figure with a bootstrap interval.

Scores are higher for more OOD. All figures are functions of how many images of each kind sit at each distinct score,
so a bootstrap resample is a new pair of counts on the same grid: no sorting, and the same values as scikit-learn's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcdm_core.detection._checks import check_rate, finite_vector

__all__ = ["Interval", "OodMetrics", "ood_metrics"]


@dataclass(frozen=True)
class Interval:
    """A figure with its percentile bootstrap interval (95 % unless asked otherwise).

    Attributes:
        value: on the scores themselves.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OodMetrics:
    """Detection figures, all in [0, 1].

    Attributes:
        auroc: area under the ROC curve, ties count half; the chance that an OOD image outscores another.
        aupr_out: average precision with OOD as the positive class. Its floor is ``n_out / (n_in + n_out)``.
        aupr_in: average precision with in-distribution as the positive class, found by low scores.
        fpr_at_95_tpr_out: OOD is the positive class: the share of in-distribution images flagged at the highest
            threshold that catches at least 95 % of the OOD images. Lower is better.
        fpr_at_95_tpr_in: in-distribution is the positive class, as in much of the literature: the share of OOD images
            passed at the lowest threshold that passes at least 95 % of the in-distribution images. Lower is better.
        n_in: in-distribution images.
        n_out: OOD images.
    """

    auroc: Interval
    aupr_out: Interval
    aupr_in: Interval
    fpr_at_95_tpr_out: Interval
    fpr_at_95_tpr_in: Interval
    n_in: int
    n_out: int

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionaries, ready for JSON."""
        return asdict(self)


def ood_metrics(
    scores_in: ArrayLike,
    scores_out: ArrayLike,
    *,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> OodMetrics:
    """Detection figures of two sets of scores.

    The bootstrap is stratified: each resample draws as many images of each kind as there are. The intervals cover
    the choice of test images, not that of training images or of the noise in the scores.

    Args:
        scores_in: scores of in-distribution images, ``[n_in]``.
        scores_out: scores of OOD images, ``[n_out]``.
        n_bootstrap: resamples, at least 1.
        confidence: probability mass between the ends of each interval, in (0, 1).
        seed: of the resamples; the same seed gives the same intervals.

    Raises:
        ValueError: scores are empty, not one-dimensional or not finite; `n_bootstrap` or `confidence` out of range.
    """
    check_rate(confidence, "confidence")
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap must be at least 1, got {n_bootstrap}")
    inside = finite_vector(scores_in, "in-distribution scores")
    outside = finite_vector(scores_out, "OOD scores")
    grid, cells = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    cells_in, cells_out = cells[: inside.size], cells[inside.size :]

    def counts(cells_of_kind: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(cells_of_kind, minlength=grid.size)

    rng = np.random.default_rng(seed)
    resampled = np.empty((n_bootstrap, 5))
    for row in resampled:
        drawn_in = counts(cells_in[rng.integers(inside.size, size=inside.size)])
        drawn_out = counts(cells_out[rng.integers(outside.size, size=outside.size)])
        row[:] = _figures(drawn_in, drawn_out)

    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    auroc, aupr_out, aupr_in, fpr_out, fpr_in = (
        Interval(value, float(lower), float(upper))
        for value, lower, upper in zip(_figures(counts(cells_in), counts(cells_out)), low, high, strict=True)
    )
    return OodMetrics(auroc, aupr_out, aupr_in, fpr_out, fpr_in, n_in=inside.size, n_out=outside.size)


def _figures(count_in: NDArray[np.int64], count_out: NDArray[np.int64]) -> tuple[float, ...]:
    """The figures of `OodMetrics`, in its order.

    Args:
        count_in: in-distribution images at each distinct score, scores ascending, ``[K]``.
        count_out: OOD images at the same scores, ``[K]``.
    """
    n_in, n_out = int(count_in.sum()), int(count_out.sum())
    up_to_in, up_to_out = np.cumsum(count_in), np.cumsum(count_out)
    # Twice the number of pairs that are ordered rightly, ties as half: whole numbers, so the sum is exact.
    auroc = int(count_out @ (2 * up_to_in - count_in)) / (2 * n_in * n_out)

    from_in, from_out = np.cumsum(count_in[::-1]), np.cumsum(count_out[::-1])
    aupr_out = _average_precision(count_out[::-1], from_out, from_in)
    aupr_in = _average_precision(count_in, up_to_in, up_to_out)
    # Whole numbers again, so that "at least 95 %" does not hang on how 0.95 is rounded.
    caught = int(np.searchsorted(100 * from_out, 95 * n_out, side="left"))
    passed = int(np.searchsorted(100 * up_to_in, 95 * n_in, side="left"))
    return auroc, aupr_out, aupr_in, int(from_in[caught]) / n_in, int(up_to_out[passed]) / n_out


def _average_precision(
    positives: NDArray[np.int64], true_positives: NDArray[np.int64], false_positives: NDArray[np.int64]
) -> float:
    """``sum_k (recall_k - recall_{k-1}) precision_k``, thresholds from the most to the least positive."""
    flagged = np.maximum(true_positives + false_positives, 1)  # a resample may leave the first scores empty
    return float(positives @ (true_positives / flagged)) / int(true_positives[-1])
