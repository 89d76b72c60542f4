"""The distance to the nearest rows of the fit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from pcdm_core.detection import NeighboursDetector

Features = NDArray[np.float64]


def correlated(rows: int, columns: int = 9, seed: int = 0) -> Features:
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(4, columns))
    return np.asarray(random.normal(size=(rows, 4)) @ mixing + 0.3 * random.normal(size=(rows, columns)))


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("neighbours", [1, 3])
def test_it_is_the_distance_of_scikit_learn_in_its_principal_components(neighbours: int, whitening: float) -> None:
    fitted, new = correlated(300), correlated(40, seed=1)
    scaler = StandardScaler().fit(fitted)
    components = PCA(4).fit(scaler.transform(fitted))
    deviations = components.explained_variance_ ** (whitening / 2)
    known, asked = (components.transform(scaler.transform(rows)) / deviations for rows in (fitted, new))
    nearest = NearestNeighbors(n_neighbors=neighbours).fit(known)
    expected = nearest.kneighbors(asked)[0].mean(axis=1) / nearest.kneighbors()[0].mean(axis=1).std()
    detector = NeighboursDetector(n_neighbors=neighbours, n_components=4, whitening=whitening).fit(fitted)
    # Coordinates are kept to two decimals.
    np.testing.assert_allclose(-detector.score_samples(new), expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize(
    ("offset", "spread"), [(0.0, 1.0), (3000.0, 1.0), (1e8, 1.0), (1e8, 0.0), (1e20, 1e16), (0.0, 1e-23), (0.0, 1e200)]
)
def test_the_nearest_are_among_those_that_are_looked_at_twice_however_little_tells_rows_apart(
    offset: float, spread: float
) -> None:
    """Also where single precision is too coarse, or has no room; at 3000 it alone would be wrong nearly always."""
    random = np.random.default_rng(0)
    detector = NeighboursDetector(n_neighbors=3)
    detector._keep(random.choice([-1.0, 1.0], (2000, 1)) * offset + spread * random.normal(size=(2000, 4)))
    for _ in range(50):
        point = offset + spread * random.normal(size=4)
        squares = np.square((detector.points_ - point) / (spread or 1.0)).sum(axis=1)
        third = np.sort(squares)[2]
        nearest = np.flatnonzero(squares < third)
        assert set(nearest) <= set(detector._candidates(point, 3))
        assert (squares[detector._candidates(point, 3)] <= third).sum() >= 3


@pytest.mark.parametrize("size", [1.0, 1e20, 1e200])
def test_however_far_off_a_row_is_its_score_is_that_of_its_distances_to_all_rows(size: float) -> None:
    detector = NeighboursDetector(n_neighbors=3, n_components=4).fit(correlated(2000))
    new = size * correlated(20, seed=1)
    points = ((new - detector.location_) / detector.scale_) @ detector.directions_.T
    with np.errstate(over="ignore"):
        squares = np.square(points[:, np.newaxis] - detector.points_).sum(axis=2)
        found = detector._scores(new)
    expected = -np.sqrt(np.sort(squares, axis=1)[:, :3]).mean(axis=1) / detector.spread_
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_few_rows_are_looked_at_twice() -> None:
    detector = NeighboursDetector(n_components=4).fit(correlated(2000))
    assert len(detector._candidates(np.zeros(4), 2)) < 10


def test_what_lies_between_two_kinds_is_seen_though_it_is_in_the_middle_of_all() -> None:
    random = np.random.default_rng(0)
    kinds = np.repeat([[-8.0], [8.0]], 200, axis=0) + random.normal(size=(400, 3))
    detector = NeighboursDetector().fit(kinds)
    assert detector.predict([kinds.mean(axis=0)]) == -1
    assert detector.predict(kinds + 0.05).mean() > 0.8


def test_a_feature_that_does_not_vary_is_no_obstacle() -> None:
    features = correlated(100)
    features[:, 4] = 0.1
    detector = NeighboursDetector(whitening=1.0).fit(features)
    assert detector.directions_.shape == (8, 9)
    assert np.isfinite(detector.score_samples(features)).all()


def test_features_of_which_none_varies_are_refused() -> None:
    with pytest.raises(ValueError, match="the features do not vary"):
        NeighboursDetector().fit(np.ones((5, 3)))


def test_two_rows_are_a_fit() -> None:
    detector = NeighboursDetector(n_neighbors=5).fit([[0.0, 1.0], [1.0, 3.0]])
    assert detector.spread_ == 1.0
    assert np.isfinite(detector.score_samples([[0.5, 2.0]])).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors must be at least 1, got 0"),
        ({"n_components": 0}, "n_components must be at least 1, got 0"),
        ({"whitening": 1.5}, r"whitening must be in \[0, 1\], got 1.5"),
    ],
)
def test_fit_refuses_wrong_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeighboursDetector(**parameters).fit(correlated(20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors must be at least 1, got 0"),
        ({"whitening": 2.0}, r"whitening must be in \[0, 1\], got 2"),
        ({"spread": [0.0]}, "spread of the detector state must be positive"),
        ({"scale": [1.0]}, "scale of the detector state must have 9 numbers, got 1"),
        ({"directions": [1.0] * 10}, "directions of the detector state must have 9 numbers, got 10"),
        ({"points": [1.0] * 5}, "points of the detector state must have 4 numbers, got 5"),
        ({"directions": [1.0]}, "directions of the detector state must have 9 numbers, got 1"),
    ],
)
def test_from_state_refuses_a_wrong_state(change: dict[str, Any], message: str) -> None:
    state = json.loads(json.dumps(NeighboursDetector(n_components=4).fit(correlated(50)).state()))
    with pytest.raises(ValueError, match=message):
        NeighboursDetector.from_state({**state, **change})


def test_a_coordinate_takes_few_characters() -> None:
    state = NeighboursDetector().fit(correlated(200)).state()
    assert len(json.dumps(state["points"])) < 8 * len(state["points"])
