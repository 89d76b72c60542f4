"""What batches are worth, by times that the test makes up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batch_sizes import BatchSizes


def settled(sizes: BatchSizes, fixed: float, each: float, rounds: int = 60) -> list[int]:
    """Sizes of batches where more wait than ever fit, and a batch takes `fixed` seconds and `each` for every unit."""
    taken = []
    for _ in range(rounds):
        taken.append(sizes.worthwhile("x"))
        sizes.learn("x", taken[-1], fixed + each * taken[-1])
    return taken


def under_noise(sizes: BatchSizes, fixed: float, each: float, rounds: int = 2000) -> list[int]:
    """Sizes of batches where each takes 14 % more or less by chance, and now and then few wait."""
    random, taken = np.random.default_rng(0), []
    for turn in range(rounds):
        taken.append(sizes.worthwhile("x"))
        waiting = taken[-1] if turn % 10 else int(random.integers(1, 9))
        sizes.learn("x", waiting, (fixed + each * waiting) * random.gamma(50, 1 / 50))
    return taken


def test_chance_does_not_choose() -> None:
    """With 2 and 1 seconds, a unit takes 1 % less in a batch of 64 than in one of 48, 5 % less than in one of 24."""
    small = [np.mean(np.array(under_noise(BatchSizes(64, memory=memory), 2, 1)[100:]) <= 24) for memory in (1, 31)]
    assert small[0] > 0.2
    assert small[1] < 0.1


def test_before_anything_is_known_batches_are_as_large_as_they_may_be() -> None:
    sizes = BatchSizes(48)
    sizes.learn("other", 48, 1)
    sizes.learn("x", 3, 1)
    assert sizes.worthwhile("x") == 48


@pytest.mark.parametrize(
    ("fixed", "each", "size"), [(1, 0, 64), (0, 1, 1), (0.5, 1, 24), (0.1, 1, 6), (4, 1, 48), (8, 1, 64)]
)
def test_no_larger_than_pays(fixed: float, each: float, size: int) -> None:
    assert settled(BatchSizes(64), fixed, each)[-1] == size


def test_none_takes_longer_than_it_should() -> None:
    assert settled(BatchSizes(64, longest=0.3), 0.01, 0.05)[-1] == 4


def test_more_are_tried_where_one_alone_takes_long() -> None:
    sizes = BatchSizes(64, longest=0.3)
    sizes.learn("x", 1, 0.2)
    assert settled(sizes, 0.2, 0.001)[-1] == 64


def test_what_has_become_slow_is_known_soon() -> None:
    sizes = BatchSizes(64, longest=0.3)
    assert settled(sizes, 0.2, 0.001)[-1] == 64
    slow = settled(sizes, 0.2, 0.1, rounds=10)
    assert slow[:2] == [64, 64]
    assert max(slow[3:]) <= 2


def test_what_took_too_long_once_is_tried_again() -> None:
    sizes = BatchSizes(64, longest=0.3)
    sizes.learn("x", 64, 60)  # by bad luck
    taken = settled(sizes, 0.2, 0.001, rounds=1000)
    assert (taken[0], taken[-1]) == (1, 64)


def test_to_ask_changes_nothing_even_where_a_size_is_about_to_be_tried_again() -> None:
    sizes = BatchSizes(64, longest=0.3)
    sizes.learn("x", 64, 60)
    for _ in range(199):
        sizes.learn("x", 1, 0.2)
    assert [sizes.worthwhile("x") for _ in range(3)] == [1, 1, 1]
    sizes.learn("x", 1, 0.2)
    assert sizes.worthwhile("x") == 2


def test_what_is_tried_again_is_of_the_next_size() -> None:
    taken = settled(BatchSizes(64, longest=0.3), 0, 0.01, rounds=1000)
    assert taken[0] == 64
    assert max(taken[1:]) == 32  # 24 take less than 0.3 s
    assert 32 in taken[300:]


def test_sizes_that_are_all_forgotten_leave_the_one_that_was_just_seen() -> None:
    sizes = BatchSizes(64, longest=0.45)
    for _ in range(197):
        sizes.learn("x", 4, 0.3)
    for _ in range(4):
        sizes.learn("x", 4, 0.9)
        sizes.worthwhile("x")
        assert not sizes.is_small("x", 4)


def test_one_unit_may_take_longer() -> None:
    assert settled(BatchSizes(64, longest=0.3), 0, 2)[-1] == 1


def test_what_takes_no_time_worth_speaking_of_is_not_cut() -> None:
    assert [settled(BatchSizes(64, brief=brief), 0, 1 / 64)[-1] for brief in (0, 0.25, 0.6, 2)] == [1, 16, 32, 64]


def test_half_as_much_again_is_a_size_too() -> None:
    assert settled(BatchSizes(64, longest=0.5), 0, 0.01)[0] == 64
    assert max(settled(BatchSizes(64, longest=0.5, brief=0.5), 0, 0.01)[-20:]) == 48


def test_small_is_what_is_four_size_classes_below_what_was_seen() -> None:
    sizes = BatchSizes(64)
    assert not sizes.is_small("x", 1)
    sizes.learn("x", 32, 1)
    assert [sizes.is_small("x", size) for size in (1, 8, 9, 64)] == [True, True, False, False]


def test_buckets_are_learned_apart() -> None:
    sizes = BatchSizes(64)
    settled(sizes, 0, 1)
    assert sizes.worthwhile("y") == 64


def test_what_was_slow_once_is_tried_again() -> None:
    sizes = BatchSizes(8)
    sizes.learn("x", 8, 8)
    sizes.learn("x", 6, 60)  # by bad luck: fewer are no slower
    taken = settled(sizes, 0, 1, rounds=1000)
    assert taken[0] == 8
    assert taken[-1] == 1


@given(st.floats(0, 10), st.floats(0.001, 1), st.integers(1, 100))
def test_a_unit_takes_about_as_long_as_in_the_best_batch(fixed: float, each: float, most: int) -> None:
    size = settled(BatchSizes(most), fixed, each)[-1]
    assert 1 <= size <= most
    # One class below what would be slower; a size within a class counts as its largest.
    assert fixed / size + each <= 1.03 * (fixed / most + each)


def test_a_batch_is_expected_to_take_as_long_as_others_of_its_size() -> None:
    sizes = BatchSizes(64)
    assert sizes.seconds("x", 12) is None
    for seconds in (1.0, 5.0, 1.2):
        sizes.learn("x", 12, seconds)
    assert sizes.seconds("x", 12) == pytest.approx(1.2)
    assert sizes.seconds("x", 10) == pytest.approx(1.0)  # alike
    assert sizes.seconds("x", 13) is None
