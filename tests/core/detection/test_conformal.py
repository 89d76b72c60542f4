from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pcdm_core.detection import conformal_p_values, conformal_threshold

Scores = NDArray[np.float64]
PValues = Callable[[Scores, Scores], Scores]

# Few distinct values among the many, so that ties are common.
SCORES = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False, allow_infinity=False))
CALIBRATIONS = st.lists(SCORES, min_size=1, max_size=60)


@given(CALIBRATIONS, st.lists(SCORES, max_size=20))
def test_p_values_are_the_definition_counted_one_by_one(calibration: list[float], scores: list[float]) -> None:
    n = len(calibration)
    expected = [(1 + sum(c >= score for c in calibration)) / (n + 1) for score in scores]
    np.testing.assert_array_equal(conformal_p_values(calibration, scores), expected)


@given(CALIBRATIONS, st.lists(SCORES, min_size=1, max_size=20))
def test_p_values_fall_from_one_to_the_smallest_there_is(calibration: list[float], scores: list[float]) -> None:
    p_values = conformal_p_values(calibration, np.sort(scores))
    assert (np.diff(p_values) <= 0).all()
    assert p_values.max() <= 1
    assert p_values.min() >= 1 / (len(calibration) + 1)


def test_p_values_keep_the_shape_of_the_scores() -> None:
    assert conformal_p_values([1.0, 2.0], np.zeros((2, 3))).shape == (2, 3)
    assert conformal_p_values([1.0, 2.0], []).shape == (0,)
    assert conformal_p_values([1.0, 2.0], 1.5).shape == ()


def rate_beyond_alpha(p_values: PValues, *, n: int, alpha: float, decimals: int) -> float:
    """How many standard errors the simulated false-positive rate lies above alpha; scores tie when rounded."""
    repeats, rng = 20_000, np.random.default_rng(0)
    draws = rng.normal(size=(repeats, n + 1)).round(decimals)
    flagged = np.mean([p_values(row[:n], row[n:])[0] <= alpha for row in draws])
    return float((flagged - alpha) / math.sqrt(alpha * (1 - alpha) / repeats))


# Without the +1 above the line the rate is (floor(alpha (n + 1)) + 1) / (n + 1): 0.10 at n = 19 and alpha = 0.05.
RATES = [(19, 0.05), (40, 0.05), (9, 0.2)]


@pytest.mark.parametrize("decimals", [12, 0], ids=["distinct", "ties"])
@pytest.mark.parametrize(("n", "alpha"), RATES)
def test_false_positive_rate_of_exchangeable_scores_is_at_most_alpha(n: int, alpha: float, decimals: int) -> None:
    assert rate_beyond_alpha(conformal_p_values, n=n, alpha=alpha, decimals=decimals) < 4


@pytest.mark.parametrize(("n", "alpha"), RATES)
def test_the_simulation_sees_a_p_value_without_the_plus_one(n: int, alpha: float) -> None:
    def without_plus_one(calibration: Scores, scores: Scores) -> Scores:
        return conformal_p_values(calibration, scores) - 1 / (len(calibration) + 1)

    assert rate_beyond_alpha(without_plus_one, n=n, alpha=alpha, decimals=12) > 10


def test_false_positive_rate_is_not_needlessly_low() -> None:
    assert abs(rate_beyond_alpha(conformal_p_values, n=19, alpha=0.05, decimals=12)) < 4


@given(CALIBRATIONS, st.lists(SCORES, max_size=20), st.floats(0.001, 0.999))
def test_threshold_and_p_value_decide_alike(calibration: list[float], scores: list[float], alpha: float) -> None:
    # The calibration scores and their neighbours are where the decision turns.
    edges = [math.nextafter(score, side) for score in calibration for side in (-math.inf, math.inf)]
    judged = np.asarray([score for score in [*scores, *calibration, *edges] if math.isfinite(score)])
    np.testing.assert_array_equal(
        judged >= conformal_threshold(calibration, alpha), conformal_p_values(calibration, judged) <= alpha
    )


@given(n=st.integers(1, 400), k=st.integers(1, 400))
def test_threshold_and_p_value_decide_alike_where_alpha_is_a_p_value(n: int, k: int) -> None:
    alpha, calibration = min(k, n) / (n + 1), np.arange(n, dtype=np.float64)
    flagged = conformal_p_values(calibration, calibration) <= alpha
    np.testing.assert_array_equal(calibration >= conformal_threshold(calibration, alpha), flagged)
    assert flagged.sum() == min(k, n) - 1


def test_threshold_is_the_smallest_that_does() -> None:
    calibration = np.arange(19.0)
    threshold = conformal_threshold(calibration, 0.05)
    assert threshold > 18.0
    assert conformal_p_values(calibration, np.nextafter(threshold, -math.inf)) > 0.05


def test_threshold_is_infinite_where_there_are_too_few_calibration_scores() -> None:
    assert conformal_threshold(np.arange(18.0), 0.05) == math.inf
    assert conformal_threshold(np.arange(19.0), 0.05) < math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"^scores must be finite: 1 of 2"):
        conformal_p_values([1.0, 2.0], [0.0, bad])
    with pytest.raises(ValueError, match=r"^calibration scores must be finite: 1 of 2"):
        conformal_p_values([1.0, bad], [0.0])
    with pytest.raises(ValueError, match=r"^calibration scores must be finite: 1 of 2"):
        conformal_threshold([1.0, bad], 0.05)


def test_calibration_scores_must_be_there() -> None:
    with pytest.raises(ValueError, match="not empty"):
        conformal_p_values([], [0.0])


@pytest.mark.parametrize("alpha", [0.0, 1.0, math.nan])
def test_an_alpha_that_is_no_rate_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1"):
        conformal_threshold([1.0], alpha)
