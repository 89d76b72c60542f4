from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdm_core.detection import conformal_p_values, rate_tolerance, realised_rate


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 99))
def test_rate_is_the_share_of_p_values_up_to_alpha(hundredths: list[int], alpha: int) -> None:
    found = realised_rate([value / 100 for value in hundredths], alpha / 100, n_calibration=99)
    assert found.rate == sum(value <= alpha for value in hundredths) / len(hundredths)


def test_tolerance_is_two_standard_errors_of_both_samples() -> None:
    found = realised_rate(np.linspace(0.001, 1, 2000), 0.05, n_calibration=2500)
    assert found.tolerance == 2 * math.sqrt(0.05 * 0.95 * (1 / 2500 + 1 / 2000))
    assert found.tolerance == pytest.approx(0.0131, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
def test_about_nineteen_of_twenty_sound_calibrations_lie_within_the_tolerance(alpha: float) -> None:
    rng, within = np.random.default_rng(0), []
    for _ in range(1000):
        p_values = conformal_p_values(rng.normal(size=800), rng.normal(size=500))
        found = realised_rate(p_values, alpha, n_calibration=800)
        within.append(abs(found.rate - alpha) <= found.tolerance)
    assert 0.92 < np.mean(within) < 0.98


def test_to_dict_is_json() -> None:
    told = json.loads(json.dumps(realised_rate([0.01, 0.5], 0.05, n_calibration=99).to_dict()))
    assert told == {"alpha": 0.05, "rate": 0.5, "tolerance": rate_tolerance(0.05, n_calibration=99, n_test=2)}


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1"):
        realised_rate([0.5], 1.0, n_calibration=10)
    with pytest.raises(ValueError, match="n_calibration must be at least 1, got 0"):
        realised_rate([0.5], 0.05, n_calibration=0)
    with pytest.raises(ValueError, match="n_test must be at least 1, got 0"):
        rate_tolerance(0.05, n_calibration=10, n_test=0)
    with pytest.raises(ValueError, match="p-values must be one-dimensional and not empty"):
        realised_rate([], 0.05, n_calibration=10)
