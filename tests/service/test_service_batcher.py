"""Requests that share batches: order, fairness, failure, cancellation and the end."""

import asyncio
import contextlib
import dataclasses
import math
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from service_doubles import ONE_CALL, Clock, InThread, Slow, SteeredScorer, images_of, tiny_scorer, until

from pcdm_core.scoring import FIDELITIES, Score, Unit, UnitResult
from service.admission import OverloadedError
from service.batcher import Batcher, StoppedError
from service.runner import ModelFailedError, WorkerDiedError
from service.runners import Runners


@contextlib.asynccontextmanager
async def batching(scorer: SteeredScorer, max_batch: int = 4) -> AsyncIterator[Batcher]:
    batcher = Batcher(scorer, Runners([InThread(scorer.run)]), max_batch=max_batch, max_queue_cost=1000)
    try:
        yield batcher
    finally:
        scorer.gate.set()
        await batcher.stop()


def start(batcher: Batcher, *values: int, bucket: int = 0) -> asyncio.Task[list[Score]]:
    return asyncio.create_task(batcher.score(images_of(*values, bucket=bucket), ONE_CALL))


async def start_waiting(batcher: Batcher, waiting: int, *values: int, bucket: int = 0) -> asyncio.Task[list[Score]]:
    """Start, and return when the queue holds `waiting` units."""
    task = start(batcher, *values, bucket=bucket)
    await until(lambda: len(batcher._dispatcher) == waiting)
    return task


async def start_measured(batcher: Batcher, scorer: SteeredScorer, clock: Clock) -> asyncio.Task[list[Score]]:
    """Let the batcher see twenty units a second, and return when it runs the four of the request that is returned."""
    first = start(batcher, 1, 2)
    await until(scorer.started.is_set)
    clock.now += 0.1
    scorer.gate.set()
    await first
    scorer.gate.clear()
    scorer.started.clear()
    running = start(batcher, 3, 4, 5, 6)
    await until(scorer.started.is_set)
    return running


async def run(batcher: Batcher, units: Sequence[Unit]) -> list[UnitResult]:
    """The results of units, before they are combined."""
    async with batcher._admitted(units, math.inf) as job:
        return await job.ran()


def bits(scores: list[Score]) -> list[float]:
    return [score.bits_per_dim for score in scores]


async def test_the_first_batch_leaves_at_once_and_the_next_is_shared() -> None:
    scorer = SteeredScorer()
    async with batching(scorer) as batcher:
        first = start(batcher, 1)
        await until(scorer.started.is_set)
        second = await start_waiting(batcher, 1, 2)
        third = await start_waiting(batcher, 3, 3, 4)
        scorer.gate.set()
        answers = await asyncio.gather(first, second, third)
    assert [bits(answer) for answer in answers] == [[1], [2], [3, 4]]
    assert scorer.batches == [[1], [2, 3, 4]]


async def test_a_unit_of_more_cost_than_a_batch_has_as_much_more_time() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()
    limits: list[float | None] = []

    class Timed(InThread):
        async def run(self, units: Sequence[Unit], *, limit: float | None = None) -> list[UnitResult]:
            limits.append(limit)
            return await super().run(units, limit=limit)

    batcher = Batcher(scorer, Runners([Timed(scorer.run)]), max_batch=4, max_queue_cost=1000, batch_limit=10)
    [unit] = scorer.plan(images_of(1), ONE_CALL)
    for cost in (1.0, 4.0, 12.0):
        await run(batcher, [dataclasses.replace(unit, cost=cost)])
    await batcher.stop()
    assert limits == [10, 10, 30]


async def test_a_large_request_delays_a_small_one_by_one_batch_only() -> None:
    scorer = SteeredScorer()
    async with batching(scorer) as batcher:
        large = start(batcher, *range(100))
        await until(scorer.started.is_set)
        small = await start_waiting(batcher, 97, 200, bucket=1)
        scorer.gate.set()
        assert bits(await small) == [200]
        assert bits(await large) == list(range(100))
    assert scorer.batches[:2] == [[0, 1, 2, 3], [200]]


async def test_a_failing_batch_fails_its_own_requests_only() -> None:
    scorer = SteeredScorer()
    async with batching(scorer) as batcher:
        first = start(batcher, 1)
        await until(scorer.started.is_set)
        broken = await start_waiting(batcher, 5, 255, 10, 11, 12, 13)
        other = await start_waiting(batcher, 6, 20, bucket=1)
        scorer.gate.set()
        with pytest.raises(ModelFailedError) as caught:
            await broken
        assert isinstance(caught.value.__cause__, FloatingPointError)
        assert [bits(answer) for answer in await asyncio.gather(first, other)] == [[1], [20]]
        assert bits(await start(batcher, 5)) == [5]
    # The broken request's last unit never ran.
    assert scorer.batches == [[1], [20], [255, 10, 11, 12], [5]]


async def test_a_batch_that_killed_the_worker_is_tried_once_more_image_by_image() -> None:
    scorer = SteeredScorer()
    async with batching(scorer) as batcher:
        first = start(batcher, 1)
        await until(scorer.started.is_set)
        deadly = await start_waiting(batcher, 2, 254, 10)
        other = await start_waiting(batcher, 3, 20)
        scorer.gate.set()
        with pytest.raises(WorkerDiedError, match="twice"):
            await deadly
        assert [bits(answer) for answer in await asyncio.gather(first, other)] == [[1], [20]]
    # The second image of the deadly request is never asked for again.
    assert scorer.batches == [[1], [20, 254, 10], [20], [254]]


async def test_an_image_alone_in_its_batch_has_a_second_chance_too() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()
    runs = iter([WorkerDiedError(), None])

    def run(units: Sequence[Unit]) -> list[UnitResult]:
        results = scorer.run(units)
        if (error := next(runs)) is not None:
            raise error
        return results

    batcher = Batcher(scorer, Runners([InThread(run)]), max_batch=4, max_queue_cost=1000)
    assert bits(await start(batcher, 7)) == [7]
    await batcher.stop()
    assert scorer.batches == [[7], [7]]


async def test_the_queue_fills_while_no_worker_is_up() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()
    runner = InThread(scorer.run)
    runner.fall()
    batcher = Batcher(scorer, Runners([runner]), max_batch=4, max_queue_cost=1000)
    tasks = [await start_waiting(batcher, waiting, waiting) for waiting in (1, 2, 3)]
    runner.rise()
    await asyncio.gather(*tasks)
    await batcher.stop()
    assert scorer.batches == [[1, 2, 3]]


async def test_a_cancelled_request_is_dropped_before_it_runs() -> None:
    scorer = SteeredScorer()
    async with batching(scorer) as batcher:
        first = start(batcher, 1, 2, 3, 4, 5, 6)
        await until(scorer.started.is_set)
        second = await start_waiting(batcher, 3, 7)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        scorer.gate.set()
        assert bits(await second) == [7]
    assert scorer.batches == [[1, 2, 3, 4], [7]]


async def test_work_beyond_the_limit_is_refused_until_there_is_room() -> None:
    scorer = SteeredScorer()
    batcher = Batcher(scorer, Runners([InThread(scorer.run)]), max_batch=1, max_queue_cost=3)
    first = start(batcher, 1, 2, 3)
    await until(lambda: batcher.backlog == 3)
    with pytest.raises(OverloadedError):
        await start(batcher, 4)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert batcher.backlog == 0
    scorer.gate.set()
    assert bits(await start(batcher, 5)) == [5]
    await batcher.stop()


async def test_a_batch_that_failed_says_nothing_of_the_size_that_pays() -> None:
    now = 0.0

    def run(units: Sequence[Unit]) -> list[UnitResult]:
        nonlocal now
        now += 0.2  # however many they are
        return scorer.run(units)

    scorer = SteeredScorer()
    scorer.gate.set()
    batcher = Batcher(scorer, Runners([InThread(run)]), max_batch=4, max_queue_cost=1000, clock=lambda: now)
    with pytest.raises(ModelFailedError):
        await start(batcher, 255, 1, 2, 3)
    await start(batcher, 10, 11, 12, 13)
    await start(batcher, 20, 21, 22, 23)
    await batcher.stop()
    # Only the second was measured: fewer are tried next.
    assert scorer.batches == [[255, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22], [23]]


@pytest.mark.parametrize(("steps", "kept"), [(3, 0), (0, 1)])
async def test_steps_that_nobody_foresaw_do_not_make_others_count_as_late(steps: int, kept: bool) -> None:
    scorer = SteeredScorer()
    clock = Clock()
    batcher = Batcher(
        scorer,
        Runners([Slow(scorer.run, clock, lambda size: 100.0 if size == 1 else 0.0)]),
        max_batch=4,
        max_queue_cost=1000,
        clock=clock,
    )
    running = await start_measured(batcher, scorer, clock)
    images = np.array([[[[1, 1, steps]]]], dtype=np.uint8)
    soon = asyncio.get_running_loop().time() + 0.45  # five units take most of that
    asked = asyncio.create_task(batcher.score(images, ONE_CALL, soon))
    await until(lambda: batcher.backlog == 5)
    scorer.gate.set()
    await asyncio.gather(running, asked)
    assert len(scorer.batches) == 3 + steps
    assert batcher._admission._reserve.left(10) == pytest.approx(7.5 if kept else 8.0, abs=0.01)
    await batcher.stop()


@pytest.mark.parametrize(("waited", "refused"), [(0.25, False), (0.45, True)])
async def test_who_cannot_be_in_time_any_more_is_refused_before_anything_runs(waited: float, refused: bool) -> None:
    scorer = SteeredScorer()
    clock = Clock()
    batcher = Batcher(scorer, Runners([InThread(scorer.run)]), max_batch=4, max_queue_cost=1000, clock=clock)
    running = await start_measured(batcher, scorer, clock)
    soon = asyncio.get_running_loop().time() + 0.55
    asked = asyncio.create_task(batcher.score(images_of(7, 8), ONE_CALL, soon))
    await until(lambda: len(batcher._dispatcher) == 2)
    clock.now += waited
    scorer.gate.set()
    await running
    if refused:
        with pytest.raises(OverloadedError):
            await asked
    else:
        assert bits(await asked) == [7, 8]
    assert batcher.backlog == 0
    await batcher.stop()
    assert scorer.batches == [[1, 2], [3, 4, 5, 6]] + [[7, 8]] * (not refused)


@pytest.mark.parametrize(("max_batch", "refused"), [(4, False), (2, True)])
async def test_who_has_had_most_of_its_work_is_not_refused(max_batch: int, refused: bool) -> None:
    """It is answered a little late at worst, and the time of the batches that it had is spent."""
    scorer = SteeredScorer()
    clock = Clock()
    runners = Runners([Slow(scorer.run, clock, lambda size: 0.1 if size == 1 else 1.0)])
    batcher = Batcher(scorer, runners, max_batch=max_batch, max_queue_cost=1000, clock=clock)
    scorer.gate.set()
    await start(batcher, 1)
    scorer.gate.clear()
    scorer.started.clear()
    running = start(batcher, 1)
    await until(scorer.started.is_set)
    soon = asyncio.get_running_loop().time() + 0.9
    asked = asyncio.create_task(batcher.score(images_of(2, 3, 4, 5, 6, 7), ONE_CALL, soon))
    await until(lambda: len(batcher._dispatcher) == 6)
    scorer.gate.set()
    await running
    if refused:
        with pytest.raises(OverloadedError):
            await asked
    else:
        assert bits(await asked) == [2, 3, 4, 5, 6, 7]
    await batcher.stop()


async def test_who_would_be_in_time_without_those_who_are_refused_stays() -> None:
    """Together they would be a batch that takes too long for it."""
    scorer = SteeredScorer()
    scorer.gate.set()
    clock = Clock()
    runner = Slow(scorer.run, clock, lambda size: 0.1 * size)
    batcher = Batcher(scorer, Runners([runner]), max_batch=4, max_queue_cost=1000, clock=clock)
    for count in (1, 3, 4):
        await start(batcher, *range(count))
    scorer.gate.clear()
    scorer.started.clear()
    running = start(batcher, 1, 1)
    await until(scorer.started.is_set)
    soon = asyncio.get_running_loop().time()
    late = asyncio.create_task(batcher.score(images_of(2, 3, 4), ONE_CALL, soon + 10))
    await until(lambda: len(batcher._dispatcher) == 3)
    other = asyncio.create_task(batcher.score(images_of(5), ONE_CALL, soon + 20))
    await until(lambda: len(batcher._dispatcher) == 4)
    clock.now += 17.2  # too late for the first, and for a batch of four
    scorer.gate.set()
    await running
    with pytest.raises(OverloadedError):
        await late
    assert bits(await other) == [5]
    await batcher.stop()


async def test_who_had_nobody_before_it_is_not_refused_however_little_time_it_has() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()
    clock = Clock()
    runner = InThread(scorer.run)
    batcher = Batcher(scorer, Runners([runner]), max_batch=4, max_queue_cost=1000, clock=clock)
    await start(batcher, 1)
    runner.fall()
    asked = asyncio.create_task(batcher.score(images_of(2), ONE_CALL, asyncio.get_running_loop().time() + 0.1))
    await until(lambda: len(batcher._dispatcher) == 1)
    clock.now = 1.0
    runner.rise()
    assert bits(await asked) == [2]
    await batcher.stop()


async def test_a_long_solution_lets_others_in_who_have_time_for_their_own_work() -> None:
    clock = Clock()
    scorer = SteeredScorer()

    batcher = Batcher(
        scorer, Runners([Slow(scorer.run, clock, lambda _: 0.1)]), max_batch=4, max_queue_cost=1000, clock=clock
    )
    scorer.gate.set()
    steps = np.array([[[[1, 1, 250]]]] * 4, dtype=np.uint8)
    asked = asyncio.create_task(batcher.score(steps, ONE_CALL))
    await until(lambda: len(scorer.batches) > 200)  # 20 s that finished nothing
    soon = asyncio.get_running_loop().time() + 0.5
    assert bits(await batcher.score(images_of(7), ONE_CALL, soon)) == [7]
    assert not asked.done()
    await asked
    await batcher.stop()


async def test_an_image_costs_as_much_as_it_was_seen_to() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()
    steps = np.array([[[[1, 0, 9]]]], dtype=np.uint8)
    async with batching(scorer) as batcher:
        await batcher.score(steps, ONE_CALL)
        scorer.gate.clear()
        asked = asyncio.create_task(batcher.score(steps, ONE_CALL))
        await until(lambda: batcher.pending == 1)
        assert batcher.backlog == 10
        scorer.gate.set()
        await asked
        assert batcher.backlog == 0


async def test_what_cannot_be_done_in_time_is_refused_while_others_are_ahead() -> None:
    scorer = SteeredScorer()
    clock = Clock()
    batcher = Batcher(scorer, Runners([InThread(scorer.run)]), max_batch=4, max_queue_cost=1000, clock=clock)
    running = await start_measured(batcher, scorer, clock)
    waiting = start(batcher, 7, 8, 9, 10)
    await until(lambda: batcher.backlog == 8)
    loop = asyncio.get_running_loop()
    # One unit waits for the running batch alone, but has three others beside it in its own; four wait for all. A fifth
    # of the time is kept back.
    for asked, seconds in ((1, 0.45), (4, 0.7)):
        with pytest.raises(OverloadedError):
            batcher.check_room(asked, ONE_CALL, loop.time() + seconds)
        with pytest.raises(OverloadedError):
            await batcher.score(images_of(*range(asked)), ONE_CALL, loop.time() + seconds)
        batcher.check_room(asked, ONE_CALL, loop.time() + seconds + 0.12)
    scorer.gate.set()
    assert [bits(answer) for answer in await asyncio.gather(running, waiting)] == [[3, 4, 5, 6], [7, 8, 9, 10]]
    await batcher.stop()


async def check_eighty_units_a_second(batcher: Batcher, scorer: SteeredScorer) -> None:
    """Eight units that run and eight more are done in time if they have 0.3 s, by what the batcher has seen."""
    scorer.gate.clear()
    running = start(batcher, *range(1, 9))
    await until(lambda: batcher.backlog == 8)
    batcher.check_room(8, ONE_CALL, asyncio.get_running_loop().time() + 0.3)
    scorer.gate.set()
    await running


async def test_small_batches_do_not_say_how_long_a_backlog_takes() -> None:
    now = 0.0

    def run(units: Sequence[Unit]) -> list[UnitResult]:
        nonlocal now
        results = scorer.run(units)
        now += 0.1  # however many they are
        return results

    scorer = SteeredScorer()
    batcher = Batcher(scorer, Runners([InThread(run)]), max_batch=8, max_queue_cost=1000, clock=lambda: now)
    first = start(batcher, 1)
    await until(scorer.started.is_set)
    others = start(batcher, *range(2, 11))
    await until(lambda: batcher.pending == 10)
    scorer.gate.set()
    await asyncio.gather(first, others)
    assert [len(batch) for batch in scorer.batches] == [1, 8, 1]  # the second was full, the third had what was left
    await check_eighty_units_a_second(batcher, scorer)
    await batcher.stop()


async def test_the_time_of_a_worker_that_died_does_not_say_how_long_a_backlog_takes() -> None:
    now = 0.0

    def run(units: Sequence[Unit]) -> list[UnitResult]:
        nonlocal now
        now += 20 if {int(unit.image.flat[0]) for unit in units} == {254} else 0.1
        return scorer.run(units)

    scorer = SteeredScorer()
    scorer.gate.set()
    batcher = Batcher(scorer, Runners([InThread(run)]), max_batch=8, max_queue_cost=1000, clock=lambda: now)
    await start(batcher, *range(1, 9))  # eighty units a second
    with pytest.raises(WorkerDiedError):
        await start(batcher, 254)
    await check_eighty_units_a_second(batcher, scorer)
    await batcher.stop()


async def test_what_is_finished_makes_room_before_its_request_is() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()
    allowed = threading.Semaphore(1)

    def run(units: Sequence[Unit]) -> list[UnitResult]:
        assert allowed.acquire(timeout=10)
        return scorer.run(units)

    batcher = Batcher(scorer, Runners([InThread(run)]), max_batch=2, max_queue_cost=4)
    large = start(batcher, 1, 2, 3, 4)
    await until(lambda: batcher.backlog == 2)
    small = start(batcher, 5)
    await until(lambda: batcher.backlog == 3)
    allowed.release(10)
    assert [bits(answer) for answer in await asyncio.gather(large, small)] == [[1, 2, 3, 4], [5]]
    await batcher.stop()


async def test_the_event_loop_goes_on_while_the_model_runs() -> None:
    scorer = SteeredScorer()
    async with batching(scorer) as batcher:
        task = start(batcher, 1)
        await until(scorer.started.is_set)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not task.done()
        scorer.gate.set()
        assert bits(await task) == [1]


async def test_no_units_need_no_model() -> None:
    async with batching(SteeredScorer()) as batcher:
        assert await run(batcher, []) == []


async def test_results_that_do_not_match_their_units_are_a_failure() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()
    whole = scorer.run
    scorer.run = lambda units: whole(units)[1:]  # type: ignore[method-assign]
    async with batching(scorer) as batcher:
        with pytest.raises(ModelFailedError):
            await start(batcher, 1, 2)


async def test_stopping_fails_what_waits_and_refuses_what_comes() -> None:
    scorer = SteeredScorer()
    batcher = Batcher(scorer, Runners([InThread(scorer.run)]), max_batch=1, max_queue_cost=1000)
    task = start(batcher, 1, 2)
    await until(scorer.started.is_set)
    await batcher.stop()
    scorer.gate.set()
    with pytest.raises(StoppedError):
        await task
    assert scorer.batches == [[1]]
    with pytest.raises(StoppedError):
        await start(batcher, 3)


async def test_shared_batches_give_the_scores_of_the_model_alone() -> None:
    scorer = tiny_scorer()
    images = np.random.default_rng(1).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    batcher = Batcher(scorer, Runners([InThread(scorer.run)]), max_batch=7, max_queue_cost=1000)
    try:
        parts = await asyncio.gather(*(batcher.score(part, ONE_CALL) for part in (images[:1], images[1:4], images[4:])))
    finally:
        await batcher.stop()
    shared = [score for part in parts for score in part]
    assert bits(shared) == pytest.approx(bits(scorer.score(images, ONE_CALL)), abs=1e-4)


async def test_a_unit_that_goes_on_runs_until_its_last_step() -> None:
    scorer = SteeredScorer()
    scorer.gate.set()
    batcher = Batcher(scorer, Runners([InThread(scorer.run)]), max_batch=4, max_queue_cost=1000)
    images = np.zeros((2, 1, 1, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 2] = (7, 8), (3, 0)
    results = await run(batcher, scorer.plan(images, ONE_CALL))
    await batcher.stop()
    assert [float(result.values[0]) for result in results] == [7.0, 8.0]
    assert scorer.batches == [[7, 8], [7], [7], [7]]


async def test_an_exact_request_delays_a_fast_one_by_the_batch_that_runs_only() -> None:
    scorer = tiny_scorer()
    images = np.random.default_rng(1).integers(0, 256, (257, 3, 8, 8), dtype=np.uint8)
    batches: list[Sequence[Unit]] = []
    began, allowed = threading.Event(), threading.Event()

    def run(units: Sequence[Unit]) -> list[UnitResult]:
        batches.append(units)
        if sum(unit.cost for unit in units) > 10:
            began.set()
            assert allowed.wait(10)
        return scorer.run(units)

    batcher = Batcher(scorer, Runners([InThread(run)]), max_batch=64, max_queue_cost=1e6)
    exact = asyncio.create_task(batcher.score(images[1:], FIDELITIES["exact"]))
    await until(began.is_set)
    before, waiting = len(batches), len(batcher._dispatcher)
    fast = asyncio.create_task(batcher.score(images[:1], FIDELITIES["fast"]))
    await until(lambda: len(batcher._dispatcher) > waiting)
    allowed.set()
    [score] = await fast
    exact.cancel()
    await batcher.stop()
    assert score.bits_per_dim == pytest.approx(scorer.score(images[:1])[0].bits_per_dim, abs=1e-4)
    assert max(sum(unit.cost for unit in units) for units in batches) <= 64
    # Its two buckets, and perhaps a batch that has begun before its answer was there.
    methods = [{unit.fidelity.method for unit in units} for units in batches[before : before + 2]]
    assert methods == [{"bound"}] * 2
