from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pcdm_core.detection import (
    BitsPerDimDetector,
    ComplexityDetector,
    ScaleRatioDetector,
    ScaleTypicalityDetector,
    TypicalityDetector,
)

Features = NDArray[np.float64]
BITS = np.random.default_rng(0).normal(4.0, 0.5, (200, 3))
numbers = st.floats(0.01, 20.0)


def score(detector: Any, *row: float) -> float:
    return float(detector.score_samples(np.array([row]))[0])


@given(numbers, numbers)
def test_more_bits_are_never_more_normal(one: float, other: float) -> None:
    detector = BitsPerDimDetector().fit(BITS[:, :1])
    assert score(detector, one) == -one
    assert (one < other) == (score(detector, one) > score(detector, other))


@given(numbers, numbers)
def test_typicality_falls_with_the_distance_from_the_mean_on_both_sides(one: float, other: float) -> None:
    detector, mean = TypicalityDetector().fit(BITS[:, :1]), BITS[:, 0].mean()
    assert score(detector, one) == -abs(one - mean)
    if abs(one - mean) <= abs(other - mean):
        assert score(detector, one) >= score(detector, other)


@given(numbers, numbers, numbers, st.floats(0, 5))
def test_complexity_is_bits_less_those_of_the_best_codec(bits: float, webp: float, png: float, more: float) -> None:
    detector = ComplexityDetector().fit(BITS)
    assert score(detector, bits, webp, png) == -(bits - min(webp, png))
    assert score(detector, bits + more, webp, png) <= score(detector, bits, webp, png)
    assert score(detector, bits, webp + more, png + more) >= score(detector, bits, webp, png)


def test_the_ratio_of_fine_to_coarse_counts_on_both_sides_and_the_total_does_not() -> None:
    terms = np.array([1.0, 1.0, 1.0]) * np.random.default_rng(1).uniform(1, 3, (100, 1))
    terms[:, 2] *= np.linspace(0.9, 1.1, 100)
    detector = ScaleRatioDetector().fit(terms)
    usual, coarse, fine = score(detector, 1, 9, 1), score(detector, 2, 9, 1), score(detector, 1, 9, 2)
    assert max(coarse, fine) < usual - 0.1
    assert score(detector, 7, 0, 7) == pytest.approx(usual)
    assert np.isfinite(score(detector, -1e-9, 0, 0))


@given(st.integers(0, 2), st.floats(0, 5), st.floats(0, 5), st.sampled_from([-1, 1]))
def test_scale_typicality_falls_with_the_distance_of_any_scale(
    scale: int, near: float, further: float, side: int
) -> None:
    detector = ScaleTypicalityDetector().fit(BITS)
    step = side * np.eye(3)[scale]
    rows = [detector.location_ + near * step, detector.location_ + (near + further) * step]
    assert score(detector, *rows[0]) >= score(detector, *rows[1])


def test_opposite_deviations_of_two_scales_cancel_in_typicality_only() -> None:
    scales = BITS[:, :2]
    odd = scales.mean(0) + np.array([-2.0, 2.0])
    assert ScaleTypicalityDetector().fit(scales).predict(odd[None]) == -1
    assert TypicalityDetector().fit(scales.sum(1, keepdims=True)).predict([[odd.sum()]]) == 1


def test_scale_typicality_is_minus_one_on_average_over_its_fit() -> None:
    assert ScaleTypicalityDetector().fit(BITS).score_samples(BITS).mean() == pytest.approx(-1)


def test_a_scale_that_does_not_vary_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 features do not vary"):
        ScaleTypicalityDetector().fit(BITS * [1, 0, 1])


@pytest.mark.parametrize("kind", [ComplexityDetector, ScaleRatioDetector])
def test_what_compares_columns_refuses_a_single_one(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"1 feature\(s\).* while a minimum of 2 is required"):
        kind().fit(BITS[:, :1])


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (TypicalityDetector, {"location": [1.0, 2.0]}, "location of the detector state must have 1 numbers, got 2"),
        (TypicalityDetector, {"n_features": [1.5]}, "n_features of the detector state must be a whole number"),
        (ComplexityDetector, {"n_features": [1]}, "a whole number, 2 or more, got 1"),
        (TypicalityDetector, {"offset": float("inf")}, "numbers of the detector state must be finite"),
        (ScaleTypicalityDetector, {"scale": [1.0]}, "scale of the detector state must have 3 numbers, got 1"),
        (ScaleTypicalityDetector, {"scale": [1.0, 0.0, 1.0]}, "scale of the detector state must be positive"),
        (BitsPerDimDetector, {"extra": 1.0}, "must have the keys"),
    ],
)
def test_from_state_refuses_a_wrong_state(kind: Any, change: dict[str, Any], message: str) -> None:
    good = kind().fit(BITS).state()
    kind.from_state(good)
    with pytest.raises(ValueError, match=message):
        kind.from_state(good | change)
