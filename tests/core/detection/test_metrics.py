from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from pcdm_core.detection import OodMetrics, ood_metrics

Scores = NDArray[np.float64]
FIGURES = ("auroc", "aupr_out", "aupr_in", "fpr_at_95_tpr_out", "fpr_at_95_tpr_in")


def by_scikit_learn(scores_in: Scores, scores_out: Scores) -> tuple[float, ...]:
    is_out = np.repeat([0, 1], [len(scores_in), len(scores_out)])
    scores = np.concatenate([scores_in, scores_out])
    fpr, tpr, _ = roc_curve(is_out, scores, drop_intermediate=False)
    passed_out, passed_in, _ = roc_curve(1 - is_out, -scores, drop_intermediate=False)
    return (
        float(roc_auc_score(is_out, scores)),
        float(average_precision_score(is_out, scores)),
        float(average_precision_score(1 - is_out, -scores)),
        float(fpr[tpr >= 0.95][0]),
        float(passed_out[passed_in >= 0.95][0]),
    )


def values(metrics: OodMetrics) -> list[float]:
    return [getattr(metrics, name).value for name in FIGURES]


def two_normals(n_in: int, n_out: int, *, shift: float = 1.0, decimals: int = 12) -> tuple[Scores, Scores]:
    rng = np.random.default_rng(0)
    return rng.normal(size=n_in).round(decimals), rng.normal(shift, size=n_out).round(decimals)


SCORE_LISTS = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=50)


@settings(deadline=None)
@given(SCORE_LISTS, SCORE_LISTS)
def test_figures_are_those_of_scikit_learn(scores_in: list[float], scores_out: list[float]) -> None:
    metrics = ood_metrics(scores_in, scores_out, n_bootstrap=1)
    expected = by_scikit_learn(np.asarray(scores_in), np.asarray(scores_out))
    np.testing.assert_allclose(values(metrics), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("decimals", [12, 0], ids=["distinct", "ties"])
def test_intervals_are_percentiles_of_scikit_learn_on_each_resample(decimals: int) -> None:
    scores_in, scores_out = two_normals(40, 25, decimals=decimals)
    metrics = ood_metrics(scores_in, scores_out, n_bootstrap=60, confidence=0.8, seed=3)
    rng, resampled = np.random.default_rng(3), []
    for _ in range(60):
        drawn_in = scores_in[rng.integers(40, size=40)]
        resampled.append(by_scikit_learn(drawn_in, scores_out[rng.integers(25, size=25)]))
    low, high = np.quantile(resampled, [0.1, 0.9], axis=0)
    np.testing.assert_allclose([getattr(metrics, name).low for name in FIGURES], low, rtol=1e-12)
    np.testing.assert_allclose([getattr(metrics, name).high for name in FIGURES], high, rtol=1e-12)


def test_interval_of_the_auroc_covers_the_truth_about_as_often_as_it_says() -> None:
    # Equal distributions: the true AUROC is one half. 200 binomial draws at 0.9 have a standard error of 0.021.
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        interval = ood_metrics(rng.normal(size=80), rng.normal(size=80), n_bootstrap=200, confidence=0.9).auroc
        hits += interval.low <= 0.5 <= interval.high
    assert 0.82 < hits / 200 < 0.97


def test_fpr_is_the_share_of_in_distribution_images_flagged() -> None:
    # Nineteen of twenty OOD scores are at least 2, and 3 of the 10 in-distribution scores are too.
    scores_in, scores_out = [0, 0, 0, 0, 0, 1, 1, 2, 5, 6], [-1] + [2] * 10 + [7] * 9
    assert ood_metrics(scores_in, scores_out, n_bootstrap=1).fpr_at_95_tpr_out.value == 0.3


def test_separated_scores_are_perfect_with_intervals_of_no_width() -> None:
    metrics = ood_metrics([0.0, 1.0, 2.0], [3.0, 4.0], n_bootstrap=50)
    assert values(metrics) == [1, 1, 1, 0, 0]
    assert [(getattr(metrics, name).low, getattr(metrics, name).high) for name in FIGURES] == [(1, 1)] * 3 + [
        (0, 0)
    ] * 2


def test_exchanging_the_sides_and_the_sign_exchanges_the_figures() -> None:
    scores_in, scores_out = two_normals(50, 80)
    there, back = ood_metrics(scores_in, scores_out), ood_metrics(-scores_out, -scores_in)
    assert back.auroc.value == there.auroc.value
    assert back.aupr_in.value == pytest.approx(there.aupr_out.value, rel=1e-12)
    assert back.fpr_at_95_tpr_in.value == there.fpr_at_95_tpr_out.value


def test_same_seed_gives_the_same_intervals_and_another_does_not() -> None:
    sides = two_normals(50, 50)
    assert ood_metrics(*sides, seed=1) == ood_metrics(*sides, seed=1)
    assert ood_metrics(*sides, seed=1) != ood_metrics(*sides, seed=2)


def test_a_thousand_resamples_of_four_thousand_scores_take_seconds() -> None:
    sides = two_normals(2000, 2000)
    start = time.process_time()
    ood_metrics(*sides, n_bootstrap=1000)
    assert time.process_time() - start < 10


def test_to_dict_is_json() -> None:
    metrics = ood_metrics([0.0, 1.0], [1.0, 2.0, 3.0], n_bootstrap=5)
    told = json.loads(json.dumps(metrics.to_dict()))
    assert set(told) == {*FIGURES, "n_in", "n_out"}
    assert told["auroc"] == {"value": 11 / 12, "low": metrics.auroc.low, "high": metrics.auroc.high}
    assert (told["n_in"], told["n_out"]) == (2, 3)


@pytest.mark.parametrize(
    ("scores_in", "scores_out", "message"),
    [
        ([float("nan")], [1.0], "in-distribution scores must be finite"),
        ([1.0], [float("inf")], "OOD scores must be finite"),
        ([], [1.0], "in-distribution scores must be one-dimensional and not empty"),
        ([1.0], [[1.0]], "OOD scores must be one-dimensional"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(
    scores_in: list[float], scores_out: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ood_metrics(scores_in, scores_out)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="n_bootstrap must be at least 1, got 0"):
        ood_metrics([0.0], [1.0], n_bootstrap=0)
    with pytest.raises(ValueError, match="confidence must lie strictly between 0 and 1, got 95"):
        ood_metrics([0.0], [1.0], confidence=95)
