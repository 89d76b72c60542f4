from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from pcdm_core.detection import DETECTORS, Detector, MixtureDetector, SpectrumDetector, detector_class, detector_name

Features = NDArray[np.float64]


def correlated(n: int, d: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return np.asarray(rng.normal(size=(n, d)) @ mixing + np.arange(d), dtype=np.float64)


@parametrize_with_checks([SpectrumDetector(), MixtureDetector()])  # type: ignore[untyped-decorator]  # scikit-learn has no types
def test_follows_the_conventions_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize(("n", "d"), [(200, 12), (15, 40)], ids=["many rows", "fewer rows than features"])
def test_score_is_minus_the_ledoit_wolf_distance_per_feature(n: int, d: int) -> None:
    fitted, new = correlated(n, d), correlated(50, d, seed=1)
    expected = -LedoitWolf().fit(fitted).mahalanobis(new) / d
    np.testing.assert_allclose(SpectrumDetector().fit(fitted).score_samples(new), expected, rtol=1e-8)


each_detector = pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS)


@each_detector
def test_score_of_a_row_does_not_depend_on_its_batch_mates(kind: type[Detector]) -> None:
    detector, new = kind().fit(correlated(300, 37)), correlated(65, 37, seed=1)
    together = detector.score_samples(new)
    alone = np.concatenate([detector.score_samples(row[np.newaxis]) for row in new])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(detector.score_samples(np.asfortranarray(new[::-1])), together[::-1])


def test_a_change_of_any_feature_lowers_the_score_of_the_mean() -> None:
    detector = SpectrumDetector().fit(correlated(300, 6))
    at_mean = detector.location_[np.newaxis]
    assert detector.score_samples(at_mean) == 0
    assert (detector.score_samples(at_mean + np.eye(6)) < -0.1).all()


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
@each_detector
def test_alpha_is_the_share_of_the_fit_data_predicted_as_outliers(alpha: float, kind: type[Detector]) -> None:
    features = correlated(1000, 8)
    predicted = kind(alpha=alpha).fit(features).predict(features)
    assert set(predicted) == {-1, 1}
    assert (predicted == -1).mean() == pytest.approx(alpha, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
@each_detector
def test_fit_refuses_an_alpha_that_is_no_rate(alpha: float, kind: type[Detector]) -> None:
    with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1"):
        kind(alpha=alpha).fit(correlated(20, 3))


def test_fit_refuses_features_that_do_not_vary() -> None:
    with pytest.raises(ValueError, match="covariance of the features is singular"):
        SpectrumDetector().fit(np.ones((10, 3)))


@each_detector
def test_state_round_trips_through_json_to_identical_scores(kind: type[Detector]) -> None:
    detector, new = kind(alpha=0.1).fit(correlated(200, 33)), correlated(50, 33, seed=1)
    restored = kind.from_state(json.loads(json.dumps(detector.state())))
    np.testing.assert_array_equal(restored.score_samples(new), detector.score_samples(new))
    np.testing.assert_array_equal(restored.predict(new), detector.predict(new))
    assert restored.state() == detector.state()
    assert restored.get_params() == detector.get_params()


@each_detector
def test_state_of_a_detector_that_was_not_fitted_is_refused(kind: type[Detector]) -> None:
    with pytest.raises(NotFittedError):
        kind().state()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": float("nan")}, "alpha and offset of the detector state must be finite"),
        ({"alpha": 1.5}, "alpha of the detector state must lie strictly between 0 and 1"),
        ({"location": [0.0, float("inf")]}, "location of the detector state must be finite: 1 of 2"),
        ({"location": []}, "location of the detector state must be one-dimensional and not empty"),
        ({"location": [0.0, 0.0, 0.0]}, "must have 6 numbers for 3 features, got 3"),
        ({"location": [[0.0, 0.0]]}, "location of the detector state must be one-dimensional"),
        ({"location": ["0.0", "1.0"]}, "location of the detector state must be numbers"),
        ({"whitening": [1.0, 0.0]}, "must have 3 numbers for 2 features, got 2"),
        ({"whitening": [1.0, float("nan"), 1.0]}, "whitening of the detector state must be finite"),
        ({"whitening": [[1.0], [0.0, 1.0]]}, "whitening of the detector state must be an array of numbers"),
        ({"whitening": [1.0, 0.5, 0.0]}, "positive diagonal"),
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


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_names_and_classes_of_detectors_belong_together(name: str) -> None:
    assert detector_name(detector_class(name)()) == name


def test_an_unknown_detector_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown detector 'forest'; known: mixture, spectrum"):
        detector_class("forest")


def test_a_detector_of_an_unregistered_class_has_no_name() -> None:
    class Other(SpectrumDetector):
        pass

    with pytest.raises(ValueError, match="Other is not a registered detector; known: mixture, spectrum"):
        detector_name(Other())
