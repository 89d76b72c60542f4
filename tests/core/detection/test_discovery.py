from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdm_core.detection import conformal_p_values, flag_batch, largest_batch

RATES = st.floats(0.001, 0.999)


def flags_a_lone_outlier(n: int, images: int, rate: float) -> bool:
    """Whether an image odder than all calibration images is flagged among images as normal as can be."""
    p_values = np.ones(images)
    p_values[0] = 1 / (n + 1)
    return bool(flag_batch(p_values, rate)[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), RATES)
def test_flagged_are_all_up_to_the_last_that_stays_below_the_line(p_values: list[float], rate: float) -> None:
    flagged = flag_batch(p_values, rate)
    ordered, m = sorted(p_values), len(p_values)
    below = [p for rank, p in enumerate(ordered, start=1) if p * (m / rank) <= rate]
    assert flagged.tolist() == [bool(below) and p <= below[-1] for p in p_values]


def test_share_of_false_alarms_is_at_most_the_rate() -> None:
    rng, shares = np.random.default_rng(0), []
    for _ in range(2000):
        calibration, normal, odd = rng.normal(size=99), rng.normal(size=16), rng.normal(3, size=4)
        flagged = flag_batch(conformal_p_values(calibration, np.concatenate([normal, odd])), 0.2)
        shares.append(flagged[:16].sum() / max(1, flagged.sum()))
    # Of sixteen normal images in twenty: 0.16 in theory, with a standard error of about 0.004.
    assert 0.13 < np.mean(shares) < 0.2


@given(st.integers(1, 3000), RATES)
def test_a_lone_outlier_is_flagged_in_the_largest_batch_and_in_no_larger(n: int, rate: float) -> None:
    images = largest_batch(n, rate)
    assert images == 0 or flags_a_lone_outlier(n, images, rate)
    assert not flags_a_lone_outlier(n, images + 1, rate)


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_largest_batch_is_right_where_the_rate_is_a_multiple_of_the_smallest_p_value(n: int, k: int) -> None:
    rate = min(k, n) / (n + 1)
    images = largest_batch(n, rate)
    assert images == 0 or flags_a_lone_outlier(n, images, rate)
    assert not flags_a_lone_outlier(n, images + 1, rate)


@pytest.mark.parametrize(("n", "rate", "images"), [(2500, 0.05, 125), (99, 0.05, 5), (19, 0.05, 1), (18, 0.05, 0)])
def test_largest_batch_is_the_rate_times_n_plus_one(n: int, rate: float, images: int) -> None:
    assert largest_batch(n, rate) == images


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_p_values_out_of_range_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="p-values must"):
        flag_batch([0.5, bad], 0.05)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must lie strictly between 0 and 1"):
        flag_batch([0.5], rate)
    with pytest.raises(ValueError, match="rate must lie strictly between 0 and 1"):
        largest_batch(10, rate)


def test_no_calibration_is_refused() -> None:
    with pytest.raises(ValueError, match="n_calibration must be at least 1, got 0"):
        largest_batch(0, 0.05)
