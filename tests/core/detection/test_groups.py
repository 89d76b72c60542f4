from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdm_core.detection import conformal_p_values, group_p_values, group_scores, ood_metrics

SCORES = st.lists(st.integers(-1000, 1000).map(float), min_size=1, max_size=60)


@given(SCORES)
def test_groups_of_one_are_the_images(scores: list[float]) -> None:
    assert sorted(group_scores(scores, 1)) == sorted(scores)


@given(SCORES, st.integers(1, 20), st.integers(0, 5))
def test_no_image_is_in_two_groups(scores: list[float], size: int, seed: int) -> None:
    # Powers of four times the score's place: the sum tells which places are in it, and how often.
    places = [float(4**place) for place in range(min(len(scores), 20))]
    sums = group_scores(places, size, seed=seed) * size
    assert len(sums) == len(places) // size
    digits = np.base_repr(round(sums.sum()), 4).lstrip("0")
    assert digits.count("1") == len(digits) - digits.count("0") == len(sums) * size


def test_groups_depend_on_the_seed_alone() -> None:
    scores = np.random.default_rng(0).normal(size=40)
    assert np.array_equal(group_scores(scores, 5, seed=1), group_scores(scores, 5, seed=1))
    assert not np.array_equal(group_scores(scores, 5, seed=1), group_scores(scores, 5, seed=2))


def test_a_group_is_easier_to_tell_than_an_image() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=1000), rng.normal(0.5, size=1000)
    aurocs = [
        ood_metrics(group_scores(inside, size), group_scores(outside, size), n_bootstrap=1).auroc.value
        for size in (1, 4, 16)
    ]
    # Phi(shift * sqrt(size) / sqrt(2)) for normal scores.
    assert aurocs == pytest.approx([0.638, 0.760, 0.921], abs=0.05)


def flagged_beyond_alpha(draws: int | None, *, n: int, size: int, alpha: float) -> float:
    """How many standard errors the rate at which normal groups are flagged lies above alpha."""
    repeats, rng = 400, np.random.default_rng(0)
    flagged = []
    for seed in range(repeats):
        group = rng.exponential(size=size).mean()
        flagged.append(group_p_values(rng.exponential(size=n), group, size, draws=draws, seed=seed) <= alpha)
    return float((np.mean(flagged) - alpha) / math.sqrt(alpha * (1 - alpha) / repeats))


def test_groups_that_share_no_image_keep_the_rate() -> None:
    assert abs(flagged_beyond_alpha(None, n=95, size=5, alpha=0.1)) < 4


def test_drawn_groups_of_few_images_do_not_keep_it() -> None:
    # What "approximate" means: ten images say too little about the mean of five, however often they are drawn.
    assert flagged_beyond_alpha(100, n=10, size=5, alpha=0.1) > 4


def test_drawn_groups_of_many_images_about_keep_it() -> None:
    assert abs(flagged_beyond_alpha(99, n=1000, size=5, alpha=0.1)) < 4


def test_drawn_groups_give_finer_p_values() -> None:
    calibration = np.random.default_rng(0).normal(size=20)
    assert group_p_values(calibration, 100.0, 5) == 1 / 5
    assert group_p_values(calibration, 100.0, 5, draws=199) == 1 / 200


def test_groups_of_one_have_the_p_values_of_images() -> None:
    rng = np.random.default_rng(0)
    calibration, scores = rng.normal(size=30), rng.normal(size=(2, 3))
    assert np.array_equal(group_p_values(calibration, scores, 1), conformal_p_values(calibration, scores))


def test_what_cannot_be_grouped_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        group_scores([1.0], 0)
    with pytest.raises(ValueError, match="a group of 3 needs at least 3 calibration scores, got 2"):
        group_p_values([1.0, 2.0], [1.0], 3)
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        group_p_values([1.0, 2.0], [1.0], 2, draws=0)
    with pytest.raises(ValueError, match="scores must be finite"):
        group_scores([math.nan], 1)
