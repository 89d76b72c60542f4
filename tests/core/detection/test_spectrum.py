from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from pcdm_core.detection import SpectrumDetector

Features = NDArray[np.float64]


def correlated(n: int, d: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return np.asarray(rng.normal(size=(n, d)) @ mixing + np.arange(d), dtype=np.float64)


@pytest.mark.parametrize(("n", "d"), [(200, 12), (15, 40)], ids=["many rows", "fewer rows than features"])
def test_score_is_minus_the_ledoit_wolf_distance_per_feature(n: int, d: int) -> None:
    fitted, new = correlated(n, d), correlated(50, d, seed=1)
    expected = -LedoitWolf().fit(fitted).mahalanobis(new) / d
    np.testing.assert_allclose(SpectrumDetector().fit(fitted).score_samples(new), expected, rtol=1e-8)


def test_a_change_of_any_feature_lowers_the_score_of_the_mean() -> None:
    detector = SpectrumDetector().fit(correlated(300, 6))
    at_mean = detector.location_[np.newaxis]
    assert detector.score_samples(at_mean) == 0
    assert (detector.score_samples(at_mean + np.eye(6)) < -0.1).all()


def test_fit_refuses_features_that_do_not_vary() -> None:
    with pytest.raises(ValueError, match="covariance of the features is singular"):
        SpectrumDetector().fit(np.ones((10, 3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": float("nan")}, "numbers of the detector state must be finite"),
        ({"alpha": 1.5}, "alpha of the detector state must lie strictly between 0 and 1"),
        ({"location": [0.0, float("inf")]}, "location of the detector state must be finite: 1 of 2"),
        ({"location": []}, "location of the detector state must be one-dimensional and not empty"),
        ({"location": [0.0, 0.0, 0.0]}, "whitening of the detector state must have 6 numbers, got 3"),
        ({"location": [[0.0, 0.0]]}, "location of the detector state must be one-dimensional"),
        ({"location": ["0.0", "1.0"]}, "location of the detector state must be numbers"),
        ({"whitening": [1.0, 0.0]}, "whitening of the detector state must have 3 numbers, got 2"),
        ({"whitening": [1.0, float("nan"), 1.0]}, "whitening of the detector state must be finite"),
        ({"whitening": [[1.0], [0.0, 1.0]]}, "whitening of the detector state must be an array of numbers"),
        ({"whitening": [1.0, 0.5, 0.0]}, "diagonal of whitening of the detector state must be positive"),
        ({"extra": 1.0}, "must have the keys"),
    ],
)
def test_from_state_refuses_a_wrong_state(change: dict[str, Any], message: str) -> None:
    good = {"alpha": 0.05, "offset": -1.0, "location": [0.0, 1.0], "whitening": [1.0, 0.5, 2.0]}
    SpectrumDetector.from_state(good)
    with pytest.raises(ValueError, match=message):
        SpectrumDetector.from_state(good | change)


def test_from_state_refuses_a_missing_key() -> None:
    with pytest.raises(ValueError, match=r"must have the keys .*'whitening'"):
        SpectrumDetector.from_state({"alpha": 0.05, "offset": -1.0, "location": [0.0]})
