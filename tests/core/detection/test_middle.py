from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from pcdm_core.detection import MiddleDetector, SpectrumDetector

Features = NDArray[np.float64]


def correlated(n: int, d: int, seed: int = 0) -> Features:
    """Few strong directions, and some noise in all."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(3, d))
    return np.asarray(rng.normal(size=(n, 3)) @ mixing + 0.3 * rng.normal(size=(n, d)), dtype=np.float64)


def test_with_all_directions_it_is_the_ledoit_wolf_distance_of_standardised_features() -> None:
    fitted, new = correlated(200, 12), correlated(30, 12, seed=1)
    scaler = StandardScaler().fit(fitted)
    expected = SpectrumDetector().fit(scaler.transform(fitted)).score_samples(scaler.transform(new))
    np.testing.assert_allclose(MiddleDetector().fit(fitted).score_samples(new), expected, rtol=1e-7)


def test_with_few_directions_it_ranks_as_probabilistic_principal_components() -> None:
    fitted, new = correlated(4000, 12), correlated(200, 12, seed=1)
    scaler = StandardScaler().fit(fitted)
    expected = PCA(3).fit(scaler.transform(fitted)).score_samples(scaler.transform(new))
    found = MiddleDetector(n_components=3).fit(fitted).score_samples(new)
    # Shrinkage of a covariance of 4,000 rows is small, and the density has a constant of its own.
    np.testing.assert_allclose(found - found.mean(), 2 / 12 * (expected - expected.mean()), rtol=0.05, atol=0.02)


def test_what_lies_outside_the_directions_kept_is_seen() -> None:
    detector = MiddleDetector(n_components=2).fit(correlated(300, 12))
    outside = np.random.default_rng(0).normal(size=12)
    outside -= detector.directions_.T @ (detector.directions_ @ outside)
    assert detector.predict([detector.location_ + 5 * detector.scale_ * outside]) == -1


def test_a_feature_that_does_not_vary_is_no_obstacle_and_a_change_of_it_is_seen() -> None:
    features = correlated(300, 12)
    features[:, 4] = 0.1
    detector = MiddleDetector(n_components=4).fit(features)
    changed = detector.location_.copy()
    changed[4] += 20
    assert detector.predict([detector.location_, changed]).tolist() == [1, -1]


def test_more_features_than_rows_will_do() -> None:
    detector = MiddleDetector(n_components=8).fit(correlated(40, 100))
    new = correlated(500, 100, seed=1)
    assert detector.score_samples(new).mean() == pytest.approx(-1, abs=0.7)
    assert detector.score_samples(new + 20).max() < detector.score_samples(new).min()


def test_features_that_do_not_vary_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="the features do not vary"):
        MiddleDetector().fit(np.ones((10, 3)))


def test_no_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="n_components must be at least 1, got 0"):
        MiddleDetector(n_components=0).fit(correlated(20, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": [1.0]}, "scale of the detector state must have 3 numbers, got 1"),
        ({"scale": [1.0, -1.0, 1.0]}, "scale of the detector state must be positive"),
        ({"variances": [1.0]}, "variances of the detector state must have 2 numbers, got 1"),
        ({"directions": [1.0]}, "directions of the detector state must have 6 numbers, got 1"),
        ({"rest": [0.0]}, "rest of the detector state must be positive"),
        ({"n_components": 0}, "variances of the detector state must have 0 numbers"),
        ({"n_components": 1.5}, "must be whole numbers"),
    ],
)
def test_from_state_refuses_a_wrong_state(change: dict[str, Any], message: str) -> None:
    good = MiddleDetector(n_components=2).fit(correlated(20, 3)).state()
    MiddleDetector.from_state(good)
    with pytest.raises(ValueError, match=message):
        MiddleDetector.from_state(good | change)
