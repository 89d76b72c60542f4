"""Alignments averaged over neighbouring noise levels."""

import json

import numpy as np
import pytest

from pcdm_core.detection import ALIGNMENT, AlignmentDetector, FeatureLayout, PooledAlignmentDetector

NODES, BANDS = 5, 2
NAMES = tuple(
    f"{kind}_scale_{scale}_node_{node}_band_{band}"
    for scale in (1, 2)
    for node in range(NODES)
    for kind in ALIGNMENT
    for band in range(BANDS)
)
LAYOUT = FeatureLayout(("bits_per_dim", *NAMES))
SMALL = {"n_estimators": 4, "max_features": 3, "n_components": 2}


def features(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, len(NAMES)))


def averaged(values: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """What the pools are meant to be, by another way: as an array by scale, node, kind and band."""
    shaped = values.reshape(len(values), 2, NODES, len(ALIGNMENT) * BANDS)
    return np.stack([shaped[:, :, group].mean(axis=2) for group in groups], axis=2).reshape(len(values), -1)


@pytest.mark.parametrize(
    ("levels", "groups"), [(1, [[0, 1, 2, 3, 4]]), (2, [[0, 1, 2], [3, 4]]), (5, [[0], [1], [2], [3], [4]])]
)
def test_neighbouring_levels_are_averaged_and_nothing_else(levels: int, groups: list[list[int]]) -> None:
    detector = PooledAlignmentDetector.for_layout(LAYOUT, levels=levels, **SMALL).fit(features(60))
    plain = AlignmentDetector(**SMALL).fit(averaged(features(60), groups))
    new = features(20, seed=1)
    np.testing.assert_allclose(
        detector.score_samples(new), plain.score_samples(averaged(new, groups)), rtol=1e-9, atol=1e-9
    )


def test_fewer_levels_than_are_wanted_stay_as_they_are() -> None:
    detector = PooledAlignmentDetector.for_layout(LAYOUT, levels=7, **SMALL)
    assert detector.pools == list(range(len(NAMES)))


def test_the_pools_are_part_of_the_state() -> None:
    detector = PooledAlignmentDetector.for_layout(LAYOUT, levels=2, **SMALL).fit(features(60))
    restored = PooledAlignmentDetector.from_state(json.loads(json.dumps(detector.state())))
    assert restored.get_params() == detector.get_params()
    np.testing.assert_array_equal(restored.score_samples(features(9)), detector.score_samples(features(9)))


@pytest.mark.parametrize("pools", [[0] * 3, [1] * len(NAMES), [-1] * len(NAMES), [0, 2] * (len(NAMES) // 2)])
def test_pools_that_fit_nothing_are_refused(pools: list[int]) -> None:
    with pytest.raises(ValueError, match=f"pools must be {len(NAMES)} whole numbers"):
        PooledAlignmentDetector(pools=pools, **SMALL).fit(features(60))


def test_no_level_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        PooledAlignmentDetector.for_layout(LAYOUT, levels=0)


@pytest.mark.parametrize(
    "change",
    [{"pools": [0.5] * len(NAMES)}, {"pools": [1e15] * len(NAMES)}, {"pools": [0] * len(NAMES)}, {"pools": [0, 1]}],
)
def test_a_state_whose_pools_do_not_fit_is_refused(change: dict[str, list[float]]) -> None:
    state = PooledAlignmentDetector.for_layout(LAYOUT, levels=2, **SMALL).fit(features(60)).state()
    with pytest.raises(ValueError, match=r"pools must be|of the detector state must"):
        PooledAlignmentDetector.from_state(state | change)
