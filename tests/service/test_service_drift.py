"""Drift of p-values: what the statistic is, what chance makes of it, and what the window keeps."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdm_core.detection import conformal_p_values
from service.drift import FEWEST_IMAGES, Drift, DriftWindow

SIZES = st.integers(1, 60)


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A calibration's size, and ranks of a window of images."""
    size = draw(SIZES)
    ranks = draw(st.lists(st.integers(1, size + 1), min_size=FEWEST_IMAGES, max_size=2 * FEWEST_IMAGES))
    return size, ranks


def drift(size: int, ranks: list[int] | np.ndarray[tuple[int], np.dtype[np.int64]], window: int = 1000) -> Drift:
    recent = DriftWindow(size, window=window)
    recent.add(rank / (size + 1) for rank in ranks)
    found = recent.report()
    assert found is not None
    return found


@given(windows())
def test_the_statistic_is_the_largest_distance_after_any_step(case: tuple[int, list[int]]) -> None:
    size, ranks = case
    steps = range(1, size + 2)
    distances = [abs(sum(rank <= step for rank in ranks) / len(ranks) - step / (size + 1)) for step in steps]
    found = drift(size, ranks)
    assert found.statistic == pytest.approx(max(distances), abs=1e-12)
    assert 0 <= found.p_value <= 1


@given(windows(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(case: tuple[int, list[int]], random: Random) -> None:
    size, ranks = case
    shuffled = ranks.copy()
    random.shuffle(shuffled)
    assert drift(size, shuffled) == drift(size, ranks)


@given(SIZES, st.data())
def test_images_that_all_tie_are_as_far_off_as_their_rank_is_from_the_farther_end(
    size: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, size + 1))
    found = drift(size, [rank] * FEWEST_IMAGES)
    assert found.statistic == pytest.approx(max(rank - 1, size + 1 - rank) / (size + 1), abs=1e-12)


@given(SIZES)
def test_every_rank_equally_often_is_no_drift(size: int) -> None:
    times = -(-FEWEST_IMAGES // (size + 1))
    found = drift(size, list(range(1, size + 2)) * times)
    assert found.statistic == pytest.approx(0, abs=1e-12)
    assert found.p_value == pytest.approx(1)


@given(windows(), windows())
def test_only_the_latest_images_count(before: tuple[int, list[int]], after: tuple[int, list[int]]) -> None:
    size, ranks = after
    earlier = [min(rank, size + 1) for rank in before[1]]
    assert drift(size, earlier + ranks, window=len(ranks)) == drift(size, ranks)


def test_nothing_is_said_of_few_images() -> None:
    recent = DriftWindow(99, window=1000)
    recent.add([0.5] * (FEWEST_IMAGES - 1))
    assert recent.report() is None
    recent.add([0.5])
    assert recent.report() is not None


@pytest.mark.parametrize(("size", "window"), [(50, 1000), (500, 300)])
def test_a_small_calibration_is_not_called_drift(size: int, window: int) -> None:
    draws = np.random.default_rng(0)
    reports = []
    for _ in range(200):
        p_values = conformal_p_values(draws.normal(size=size), draws.normal(size=window))
        reports.append(drift(size, np.rint(p_values * (size + 1)).astype(np.int64)).p_value)
    # 0.1 within three standard errors of 200 trials; the test of one sample alone always says so of the smaller one.
    assert np.mean(np.array(reports) <= 0.1) == pytest.approx(0.1, abs=0.064)


def test_images_that_score_a_little_higher_are_found() -> None:
    draws = np.random.default_rng(0)
    p_values = conformal_p_values(draws.normal(size=2500), draws.normal(0.3, size=1000))
    assert drift(2500, np.rint(p_values * 2501).astype(np.int64)).p_value < 1e-6


@pytest.mark.parametrize("p_value", [0.0, -0.1, 1.1, float("nan"), float("inf")])
def test_what_is_no_p_value_is_refused(p_value: float) -> None:
    recent = DriftWindow(9, window=100)
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        recent.add([0.5, p_value])
    assert len(recent) == 0


@pytest.mark.parametrize(("size", "window"), [(0, 1000), (9, 99)])
def test_a_window_without_a_meaning_is_refused(size: int, window: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        DriftWindow(size, window=window)
