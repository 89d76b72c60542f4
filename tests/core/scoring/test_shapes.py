"""Batches of any size by graphs of few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdm_core.scoring.shapes import graph_sizes, size_ladder

LADDERS = st.sets(st.integers(1, 600), min_size=1, max_size=5).map(lambda sizes: tuple(sorted(sizes)))


@pytest.mark.parametrize(
    ("largest", "ladder"), [(1, (1,)), (7, (7,)), (8, (8,)), (63, (8,)), (64, (8, 64)), (600, (8, 64, 512))]
)
def test_a_ladder_has_few_sizes(largest: int, ladder: tuple[int, ...]) -> None:
    assert size_ladder(largest) == ladder


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (1, (8,)),
        (8, (8,)),
        (12, (8, 8)),
        (56, (8,) * 7),
        (57, (64,)),
        (64, (64,)),
        (65, (64, 8)),
        (140, (64, 64, 8, 8)),
    ],
)
def test_a_batch_is_cut_so_that_little_is_padded(size: int, sizes: tuple[int, ...]) -> None:
    assert graph_sizes(size, (8, 64)) == sizes


@given(size=st.integers(1, 2000), ladder=LADDERS)
def test_padding_is_less_than_the_smallest_size(size: int, ladder: tuple[int, ...]) -> None:
    assert 0 <= sum(graph_sizes(size, ladder)) - size < ladder[0]


@given(size=st.integers(1, 2000), ladder=LADDERS)
def test_only_sizes_of_the_ladder_are_used_and_only_the_last_is_padded(size: int, ladder: tuple[int, ...]) -> None:
    sizes = graph_sizes(size, ladder)
    assert set(sizes) <= set(ladder)
    assert sum(sizes[:-1]) < size
