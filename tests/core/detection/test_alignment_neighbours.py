"""Alignments and neighbours, added."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pcdm_core.detection import (
    ALIGNMENT,
    MIDDLE,
    AlignmentNeighboursDetector,
    FeatureLayout,
    NeighboursDetector,
    PooledAlignmentDetector,
)

NODES, CHANNELS = 9, 3
LAYOUT = FeatureLayout(
    (
        "bits_per_dim",
        *(f"{kind}_scale_{s}_node_{n}_band_0" for s in (1, 2) for n in range(NODES) for kind in ALIGNMENT),
        *(f"{kind}_scale_{s}_channel_{c}" for s in (1, 2) for kind in MIDDLE for c in range(CHANNELS)),
    )
)
SEEN = len(LAYOUT) - 1
COARSE = LAYOUT.places(*MIDDLE)[: 2 * CHANNELS] - 1


def features(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, SEEN))


def fitted(**parameters: Any) -> AlignmentNeighboursDetector:
    return AlignmentNeighboursDetector.for_layout(LAYOUT, n_estimators=4, **parameters).fit(features(80))


@pytest.mark.parametrize("weight", [0.0, 0.675, 2.0])
def test_it_is_the_sum_of_both_each_in_standard_deviations(weight: float) -> None:
    seen, new = LAYOUT.places(*ALIGNMENT) - 1, features(20, seed=1)
    alignment = PooledAlignmentDetector.for_layout(LAYOUT, n_estimators=4).fit(features(80)[:, seen])
    neighbours = NeighboursDetector().fit(features(80)[:, COARSE])
    expected = alignment.score_samples(new[:, seen]) / alignment.score_samples(features(80)[:, seen]).std()
    expected = expected + weight * neighbours.score_samples(new[:, COARSE])
    np.testing.assert_allclose(fitted(weight=weight).score_samples(new), expected, rtol=1e-9)


def test_of_the_middle_the_coarsest_scale_alone_is_seen() -> None:
    new = features(9, seed=1)
    changed = new.copy()
    changed[:, COARSE[-1] + 1 :] += 5
    np.testing.assert_array_equal(fitted().score_samples(changed), fitted().score_samples(new))
    changed[:, COARSE[-1]] += 5
    assert (fitted().score_samples(changed) < fitted().score_samples(new)).all()


def test_alignments_are_averaged_over_neighbouring_levels() -> None:
    assert fitted().alignment_.pools == PooledAlignmentDetector.for_layout(LAYOUT).pools
    assert max(fitted().alignment_.pools or []) + 1 == 7 * 2 * len(ALIGNMENT)


def test_columns_and_pools_are_part_of_the_state() -> None:
    detector = fitted()
    restored = AlignmentNeighboursDetector.from_state(json.loads(json.dumps(detector.state())))
    assert restored.get_params() == detector.get_params()
    np.testing.assert_array_equal(restored.score_samples(features(9)), detector.score_samples(features(9)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"weight": -1.0}, "weight must be at least 0, got -1.0"),
        ({"middle_columns": [0, SEEN]}, f"middle_columns must be whole numbers from 0 to {SEEN - 1}"),
        ({"alignment_columns": []}, f"alignment_columns must be whole numbers from 0 to {SEEN - 1}"),
    ],
)
def test_fit_refuses_wrong_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlignmentNeighboursDetector(**parameters).fit(features(20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": -0.5}, "weight of the detector state must be at least 0"),
        ({"spread": 0.0}, "spread positive"),
        ({"alpha": 1.0}, "alpha of the detector state must lie strictly between 0 and 1"),
        ({"n_features": 2.5}, "n_features of the detector state must be a whole number"),
        ({"middle_columns": [0]}, "neighbours of the detector state must have 6 columns, got 1"),
        ({"middle_columns": [0.5]}, "middle_columns of the detector state must be whole numbers"),
        ({"alignment_columns": [99]}, f"alignment_columns must be whole numbers from 0 to {SEEN - 1}"),
        ({"neighbours": [1.0]}, "neighbours of the detector state must be an object"),
        ({"offset": None}, "numbers of the detector state must be"),
    ],
)
def test_from_state_refuses_a_wrong_state(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlignmentNeighboursDetector.from_state({**fitted().state(), **change})
