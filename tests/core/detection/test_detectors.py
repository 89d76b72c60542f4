from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from pcdm_core.detection import (
    DETECTORS,
    SINGLES,
    AlignmentNeighboursDetector,
    Detector,
    FeatureLayout,
    MixtureDetector,
    SpectrumDetector,
    detector_class,
    detector_name,
    detector_named,
)

Features = NDArray[np.float64]


def correlated(n: int, d: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(d)
    return np.asarray(rng.normal(size=(n, d)) @ mixing + np.arange(d), dtype=np.float64)


def quick(kind: type[Detector], **parameters: Any) -> Detector:
    """With few mixtures where it has some: all these tests together fit it hundreds of times."""
    if issubclass(kind, MixtureDetector | AlignmentNeighboursDetector):
        parameters["n_estimators"] = 4
    return kind(**parameters)


@parametrize_with_checks([quick(kind) for kind in DETECTORS.values()])  # type: ignore[untyped-decorator]  # scikit-learn has no types
def test_follows_the_conventions_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


each_detector = pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS)


@each_detector
def test_score_of_a_row_does_not_depend_on_its_batch_mates(kind: type[Detector]) -> None:
    detector, new = quick(kind).fit(correlated(300, 37)), correlated(65, 37, seed=1)
    together = detector.score_samples(new)
    alone = np.concatenate([detector.score_samples(row[np.newaxis]) for row in new])
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(detector.score_samples(np.asfortranarray(new[::-1])), together[::-1])


# Not the ensemble's: many rows of its fit share a score, and a quantile cannot part them.
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("kind", SINGLES.values(), ids=SINGLES)
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


@each_detector
def test_state_round_trips_through_json_to_identical_scores(kind: type[Detector]) -> None:
    detector, new = quick(kind, alpha=0.1).fit(correlated(200, 33)), correlated(50, 33, seed=1)
    restored = kind.from_state(json.loads(json.dumps(detector.state())))
    np.testing.assert_array_equal(restored.score_samples(new), detector.score_samples(new))
    np.testing.assert_array_equal(restored.predict(new), detector.predict(new))
    assert restored.state() == detector.state()
    assert restored.get_params() == detector.get_params()


def places_of_numbers(state: Any) -> Iterator[tuple[Any, Any]]:
    """Each number of a state, of a list the last: what holds it, and its key there."""
    keys = list(state) if isinstance(state, dict) else [len(state) - 1]
    for key in keys:
        if isinstance(state[key], dict | list):
            yield from places_of_numbers(state[key])
        elif isinstance(state[key], int | float):
            yield state, key


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@each_detector
def test_a_state_with_a_number_that_is_not_finite_is_refused(kind: type[Detector], number: float) -> None:
    state = json.loads(json.dumps(quick(kind).fit(correlated(200, 6)).state()))
    for holder, key in places_of_numbers(state):
        before, holder[key] = holder[key], number
        with pytest.raises(ValueError, match=r"."):
            kind.from_state(state)
        holder[key] = before
    kind.from_state(state)


@each_detector
def test_features_score_alike_whether_or_not_scikit_learn_has_to_convert_them(kind: type[Detector]) -> None:
    detector, new = quick(kind).fit(correlated(200, 33)), correlated(5, 33, seed=1)
    np.testing.assert_array_equal(detector.score_samples(new), detector.score_samples(new.tolist()))


@each_detector
def test_features_that_need_no_conversion_are_not_looked_at_by_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, kind: type[Detector]
) -> None:
    detector = quick(kind).fit(correlated(200, 3))
    monkeypatch.setattr("pcdm_core.detection.base.validate_data", None)
    assert detector.score_samples(correlated(5, 3)).shape == (5,)


@each_detector
@pytest.mark.parametrize(
    ("found", "told"),
    [(np.full((2, 3), np.nan), "NaN"), (np.ones((2, 4)), "3 features"), (np.ones(3), "2D"), (np.ones((0, 3)), "0 sam")],
    ids=["not finite", "another number of them", "one row as such", "no row"],
)
def test_features_that_do_not_fit_are_refused(found: NDArray[np.float64], told: str, kind: type[Detector]) -> None:
    detector = quick(kind).fit(correlated(200, 3))
    with pytest.raises(ValueError, match=told):
        detector.score_samples(found)


@each_detector
def test_a_clone_fits_to_the_same_detector_in_a_pipeline_too(kind: type[Detector]) -> None:
    features = correlated(200, 6)
    detector = quick(kind, alpha=0.2)
    piped = make_pipeline(FunctionTransformer(), clone(detector)).fit(features)
    np.testing.assert_array_equal(piped.score_samples(features), detector.fit(features).score_samples(features))
    np.testing.assert_array_equal(piped.predict(features), detector.predict(features))


@each_detector
def test_state_of_a_detector_that_was_not_fitted_is_refused(kind: type[Detector]) -> None:
    with pytest.raises(NotFittedError):
        kind().state()


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_names_and_classes_of_detectors_belong_together(name: str) -> None:
    assert detector_name(detector_class(name)()) == name


def test_an_unknown_detector_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown detector 'forest'; known: .*mixture, .*spectrum"):
        detector_class("forest")


def test_a_detector_of_an_unregistered_class_has_no_name() -> None:
    class Other(SpectrumDetector):
        pass

    with pytest.raises(ValueError, match=r"Other is not a registered detector; known: .*mixture, .*spectrum"):
        detector_name(Other())


LAYOUT = FeatureLayout(
    (
        *("bits_per_dim", "reconstruction", "prior_scale_1", "prior_scale_2", "diffusion_scale_1", "diffusion_scale_2"),
        *("webp_bits_per_dim", "png_bits_per_dim"),
        *(f"{kind}_scale_{scale}_node_0_band_0" for scale in (1, 2) for kind in ("error", "norm")),
        *("alignment_scale_1_node_0_band_0_colour_0", "neighbour_alignment_scale_1_node_0_band_0"),
        *(f"{kind}_scale_1_channel_{channel}" for kind in ("middle_mean", "middle_std") for channel in (0, 1)),
    )
)
SEEN = {
    "alignment": [12, 13],
    "pooled_alignment": [12, 13],
    "mixture": [8, 9, 10, 11],
    "spectrum": [8, 9, 10, 11],
    "score_norms": [9, 11],
    "bits_per_dim": [0],
    "typicality": [0],
    "scale_typicality": [4, 5],
    "scale_ratio": [4, 5],
    "complexity": [0, 6, 7],
    "middle": [14, 15, 16, 17],
    "neighbours": [14, 15, 16, 17],
    "alignment_neighbours": [12, 13, 14, 15, 16, 17],
    "ensemble": [0, 4, 5, 6, 7, 8, 9, 10, 11],
}


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_detector_sees_the_columns_of_its_kinds(name: str) -> None:
    detector = detector_named(name, LAYOUT, alpha=0.2)
    assert type(detector) is DETECTORS[name]
    assert detector.alpha == 0.2
    assert LAYOUT.places(*detector.kinds).tolist() == SEEN[name]


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_layout_without_the_columns_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the evaluation has no "):
        detector_named(name, FeatureLayout(("reconstruction",)))
