"""The figures of a calibrated detector on sets of images, as plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pcdm_core.detection import (
    Calibration,
    compare_aurocs,
    group_p_values,
    group_scores,
    largest_batch,
    ood_metrics,
    realised_rate,
)
from pcdm_core.report.measured import MeasuredSet

__all__ = ["ALPHAS", "GROUP_SIZES", "measurements"]

ALPHAS: Final = (0.01, 0.05, 0.1)
"""Wanted false-positive rates at which the realised ones are told."""

GROUP_SIZES: Final = (2, 5, 10)
"""Images judged together."""


def measurements(
    calibration: Calibration,
    inside: MeasuredSet,
    outside: Sequence[MeasuredSet],
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """All figures, ready for JSON.

    Args:
        calibration: that made the scores.
        inside: in-distribution images that neither fitted nor calibrated the detector.
        outside: sets of OOD images.
        progress: called after each of these with the number of sets done; the bootstrap of large sets takes seconds.

    Returns:
        ``largest_batch``: how many images Benjamini-Hochberg may judge at once at the calibration's alpha, see
        `pcdm_core.detection.largest_batch`. ``id``: the in-distribution set, with the share flagged at the
        calibration's alpha and the realised rates at `ALPHAS`. ``sets``, one for each OOD set: `OodMetrics` of the
        score, the share flagged, the AUROC of bits/dim alone, DeLong's test of the two scores (None with fewer than two
        images of a kind), both of these for each score that was compared, and the figures of groups of each of
        `GROUP_SIZES`.
    """
    n = calibration.calibration_scores.size
    sets = []
    for one in outside:
        sets.append(_against(calibration, inside, one))
        if progress is not None:
            progress(len(sets))
    rates = [realised_rate(inside.p_values, alpha, n_calibration=n).to_dict() for alpha in ALPHAS]
    return {
        "largest_batch": {"rate": calibration.alpha, "images": largest_batch(n, calibration.alpha)},
        "id": {
            "source": inside.source,
            "images": len(inside),
            "flagged": _flagged(calibration, inside.p_values),
            "rates": rates,
        },
        "sets": sets,
    }


def _against(calibration: Calibration, inside: MeasuredSet, outside: MeasuredSet) -> dict[str, Any]:
    figures = ood_metrics(inside.scores, outside.scores).to_dict()
    bits = _compared(inside, outside, inside.bits_per_dim, outside.bits_per_dim)
    return {
        "source": outside.source,
        **figures,
        "flagged": _flagged(calibration, outside.p_values),
        "bits_per_dim": {"auroc": bits["auroc"]},
        "score_against_bits_per_dim": bits["score_against_it"],
        "compared": {
            name: _compared(inside, outside, scores, outside.compared[name]) for name, scores in inside.compared.items()
        },
        "groups": [_of_groups(calibration, inside, outside, size) for size in GROUP_SIZES],
    }


def _compared(
    inside: MeasuredSet, outside: MeasuredSet, other_in: NDArray[np.float64], other_out: NDArray[np.float64]
) -> dict[str, Any]:
    """The AUROC of another score of the same images, and DeLong's test of the detector's score against it."""
    delong = None
    if min(len(inside), len(outside)) > 1:
        test = compare_aurocs(inside.scores, outside.scores, other_in, other_out)
        delong = {"difference": test.difference, "stderr": test.stderr, "p_value": test.p_value}
    return {"auroc": ood_metrics(other_in, other_out).to_dict()["auroc"], "score_against_it": delong}


def _of_groups(calibration: Calibration, inside: MeasuredSet, outside: MeasuredSet, size: int) -> dict[str, Any]:
    """Of groups that share no image; None for figures that the images are too few for."""
    groups_in, groups_out = group_scores(inside.scores, size), group_scores(outside.scores, size)

    def flagged(groups: NDArray[np.float64]) -> float | None:
        if not groups.size or calibration.calibration_scores.size < size:
            return None
        return _flagged(calibration, group_p_values(calibration.calibration_scores, groups, size))

    enough = groups_in.size and groups_out.size
    return {
        "size": size,
        "auroc": ood_metrics(groups_in, groups_out).to_dict()["auroc"] if enough else None,
        "flagged_in": flagged(groups_in),
        "flagged_out": flagged(groups_out),
        "n_in": groups_in.size,
        "n_out": groups_out.size,
    }


def _flagged(calibration: Calibration, p_values: NDArray[np.float64]) -> float:
    return float(calibration.is_ood(p_values).mean())
