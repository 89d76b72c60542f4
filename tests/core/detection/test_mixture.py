from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from pcdm_core.detection import MixtureDetector, SpectrumDetector

Features = NDArray[np.float64]


def two_clusters(n: int, seed: int = 0) -> Features:
    """Half the rows around (-5, ..., -5), half around (5, ..., 5), in four dimensions."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.normal(size=(n, 4)) + rng.choice([-5.0, 5.0], size=(n, 1)), dtype=np.float64)


def test_one_gaussian_of_all_features_is_its_log_density_per_feature() -> None:
    features, new = two_clusters(400), two_clusters(20, seed=1)
    mean, std = features.mean(0), features.std(0)
    covariance = np.corrcoef(features.T) + 0.01 * np.eye(4)
    expected = multivariate_normal(np.zeros(4), covariance).logpdf((new - mean) / std) / 4
    detector = MixtureDetector(n_estimators=2, max_features=4, n_components=1).fit(features)
    np.testing.assert_allclose(detector.score_samples(new), expected, rtol=1e-9)


def test_what_lies_between_two_clusters_is_odd_to_a_mixture_only() -> None:
    features, between = two_clusters(400), np.zeros((1, 4))
    assert MixtureDetector(max_features=3).fit(features).predict(between) == -1
    assert SpectrumDetector().fit(features).predict(between) == 1


def test_every_mixture_sees_different_features_and_each_feature_counts() -> None:
    detector = MixtureDetector(max_features=2).fit(two_clusters(400))
    assert detector.subsets_.shape == (16, 2)
    assert (np.diff(detector.subsets_) > 0).all()
    assert set(detector.subsets_.flat) == {0, 1, 2, 3}
    assert len(np.unique(detector.subsets_, axis=0)) > 1


def test_units_of_the_features_do_not_matter() -> None:
    features, new, unit = two_clusters(300), two_clusters(20, seed=1), np.array([1e-3, 1.0, 50.0, 1e4])
    one, other = MixtureDetector().fit(features), MixtureDetector().fit(features * unit)
    np.testing.assert_allclose(other.score_samples(new * unit), one.score_samples(new), rtol=1e-6)


def test_same_seed_same_detector() -> None:
    features = two_clusters(100)
    fitted = [MixtureDetector(random_state=seed, max_features=2).fit(features).state() for seed in (3, 3, 4)]
    assert fitted[0] == fitted[1]
    assert fitted[0]["means"] != fitted[2]["means"]


@pytest.mark.parametrize("name", ["n_estimators", "max_features", "n_components"])
def test_fit_refuses_none_of_what_it_is_made_of(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        MixtureDetector(**{name: 0}).fit(two_clusters(20))


@pytest.mark.parametrize("value", [1.0, 0.1])  # the mean of twenty 0.1 is rounded
def test_fit_refuses_a_feature_that_does_not_vary(value: float) -> None:
    features = two_clusters(20)
    features[:, 2] = value
    with pytest.raises(ValueError, match="1 of 4 features do not vary"):
        MixtureDetector().fit(features)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": float("nan")}, "numbers of the detector state must be finite"),
        ({"alpha": 0.0}, "alpha of the detector state must lie strictly between 0 and 1"),
        ({"scale": [1.0, 1.0, 1.0]}, "scale of the detector state must have 4 numbers, got 3"),
        ({"scale": [1.0, 1.0, 0.0, 1.0]}, "scale of the detector state must be positive"),
        ({"subsets": [0, 1, 2, 4]}, "whole numbers from 0 to 3"),
        ({"subsets": [0, 1.5, 2, 3]}, "whole numbers from 0 to 3"),
        ({"subsets": [0, 1]}, "subsets of the detector state must have 4 numbers, got 2"),
        ({"weights": []}, "weights of the detector state must be one-dimensional and not empty"),
        ({"weights": [0.5, 0.5, 0.0, 1.0]}, "weights of the detector state must be positive"),
        ({"means": [0.0]}, "means of the detector state must have 8 numbers, got 1"),
        ({"whitening": [1.0]}, "whitening of the detector state must have 12 numbers, got 1"),
        ({"whitening": [0.0] * 12}, "diagonal of whitening of the detector state must be positive"),
        ({"n_estimators": -1}, "of the detector state must have -2 numbers"),
        ({"n_estimators": 2.5}, "must be whole numbers"),
        ({"random_state": 0.5}, "must be whole numbers"),
        ({"extra": 1.0}, "must have the keys"),
    ],
)
def test_from_state_refuses_a_wrong_state(change: dict[str, Any], message: str) -> None:
    good = MixtureDetector(n_estimators=2, max_features=2, n_components=2).fit(two_clusters(50)).state()
    MixtureDetector.from_state(good)
    with pytest.raises(ValueError, match=message):
        MixtureDetector.from_state(good | change)
