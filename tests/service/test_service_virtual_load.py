"""What the batcher, its door and its queue do together with many requests, of which each gives a second."""

from virtual_load import Load, in_virtual_time

CAPACITY = 14.0
"""About what the workers finish in a second, by batches of three images."""


@in_virtual_time
async def test_almost_all_are_answered_where_the_workers_can(load: Load) -> None:
    await load.arrive(0.6 * CAPACITY, 60)
    assert load.share("answered") > 0.99


@in_virtual_time
async def test_twice_as_many_as_can_be_answered_take_nothing_from_those_who_are(load: Load) -> None:
    await load.arrive(2 * CAPACITY, 60)
    assert load.outcomes["answered"] / 60 > 0.9 * CAPACITY
    assert load.share("late") < 0.01


@in_virtual_time
async def test_a_load_after_requests_by_themselves_finds_the_door_open(load: Load) -> None:
    """They had small batches of most buckets and others of one, by which next to nothing could be done in time."""
    await load.one_after_the_other(100)
    await load.arrive(0.8 * CAPACITY, 30)
    assert load.share("answered") > 0.95


@in_virtual_time
async def test_workers_that_become_slow_make_some_late_for_a_moment_only(load: Load) -> None:
    await load.arrive(0.8 * CAPACITY, 30)
    for runner in load.runners:
        runner.slowness = 2.0
    await load.arrive(0.8 * CAPACITY, 5)
    await load.arrive(0.8 * CAPACITY, 60)
    assert load.share("late") < 0.02
    assert load.outcomes["answered"] / 60 > 0.9 * CAPACITY / 2


@in_virtual_time
async def test_workers_that_are_fast_again_are_made_use_of(load: Load) -> None:
    for runner in load.runners:
        runner.slowness = 3.0
    await load.arrive(0.8 * CAPACITY, 60)
    for runner in load.runners:
        runner.slowness = 1.0
    await load.arrive(0.6 * CAPACITY, 30)
    await load.arrive(0.6 * CAPACITY, 60)
    assert load.share("answered") > 0.95
