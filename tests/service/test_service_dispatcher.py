"""When a worker gets its next batch, and what becomes of that if the worker ends."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Hashable, Sequence

import numpy as np
import pytest
from service_doubles import ONE_CALL, Clock, InThread, images_of, until

from pcdm_core.scoring import Unit, UnitResult
from service.admission import Admission, DrainRate, OverloadedError, Ticket
from service.dispatcher import Batch, Dispatcher, Outcome
from service.job import Item, Job
from service.observer import Observer
from service.runner import NotRunError, WorkerDiedError
from service.runners import Runners

SECONDS = 0.2
"""That a batch takes, about. All are of one unit, so that nothing is tried as to their size."""


class OneByOne(InThread):
    """A runner whose batches end when the test says so, each after those before it."""

    def __init__(self) -> None:
        super().__init__(lambda units: [UnitResult(np.zeros(1)) for _ in units])
        self.given: list[int] = []
        self.began: list[int] = []
        self.may_end: asyncio.Semaphore = asyncio.Semaphore(0)
        self._turn = asyncio.Lock()
        self.dies = False

    async def run(self, units: Sequence[Unit], *, limit: float | None = None) -> list[UnitResult]:
        self.given.append(len(units))
        async with self._turn:
            if self.dies:
                raise NotRunError
            self.began.append(len(units))
            await self.may_end.acquire()
            if self.dies:
                raise WorkerDiedError
            return await super().run(units, limit=limit)


class Settled:
    """What a dispatcher told of its batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, Outcome]] = []

    def __call__(self, batch: Batch, outcome: Outcome) -> float:
        self.batches.append((len(batch), outcome))
        return 0.0 if isinstance(outcome, Exception) else float(len(batch))


def put(dispatcher: Dispatcher, count: int, ticket: Ticket | None = None) -> Job:
    """Let units wait that cost 1 each, of a request of their own: by default one that may take as long as it will."""
    units = [Unit(index, images_of(1)[0], 1, 0, 0, ONE_CALL, 1.0, ("bucket",)) for index in range(count)]
    ticket = ticket or Ticket(count, math.inf, 0.0, behind=False, telling=False)
    passage = Observer().queued(count)
    job = Job(units, [1.0] * count, ticket, asyncio.get_running_loop().create_future(), passage)
    for index in range(count):
        dispatcher.put(job, Item(index))
    return job


@contextlib.asynccontextmanager
async def dispatching(runner: OneByOne, settled: Settled) -> AsyncIterator[Dispatcher]:
    """A dispatcher that knows how long a batch takes, and has none."""
    rate = DrainRate()
    admission = Admission(math.inf, rate, time.monotonic)
    dispatcher = Dispatcher(
        *(Runners([runner]), admission, rate, settled), max_batch=1, batch_limit=None, observer=Observer()
    )
    put(dispatcher, 1)
    await until(lambda: len(runner.began) == 1)
    await asyncio.sleep(SECONDS)
    runner.may_end.release()
    await until(lambda: len(settled.batches) == 1)
    try:
        yield dispatcher
    finally:
        await dispatcher.stop()


async def test_a_worker_is_given_its_next_batch_before_it_is_done_and_no_other() -> None:
    runner, settled = OneByOne(), Settled()
    async with dispatching(runner, settled) as dispatcher:
        put(dispatcher, 4)
        await until(lambda: runner.given == [1, 1])
        began = asyncio.get_running_loop().time()
        await until(lambda: runner.given == [1, 1, 1])
        assert asyncio.get_running_loop().time() - began > SECONDS / 2  # not sooner than it will be of use
        assert runner.began == [1, 1]
        await asyncio.sleep(2 * SECONDS)
        assert runner.given == [1, 1, 1]
        runner.may_end.release()
        await until(lambda: runner.began == [1, 1, 1])
        assert [size for size, _ in settled.batches] == [1, 1]


async def test_no_batch_is_given_early_where_little_waits() -> None:
    """What comes meanwhile can be in it, and another worker may be free before."""
    runner, settled = OneByOne(), Settled()
    async with dispatching(runner, settled) as dispatcher:
        put(dispatcher, 1)
        await until(lambda: runner.given == [1, 1])
        await asyncio.sleep(2 * SECONDS)
        put(dispatcher, 1)
        await asyncio.sleep(SECONDS)
        assert runner.given == [1, 1]
        runner.may_end.release()
        await until(lambda: runner.given == [1, 1, 1])


async def test_who_comes_after_the_queue_was_emptied_by_others_does_not_wait_behind_a_busy_worker() -> None:
    runner, settled = OneByOne(), Settled()
    async with dispatching(runner, settled) as dispatcher:
        put(dispatcher, 1)
        await until(lambda: runner.given == [1, 1])
        [running] = dispatcher._held[runner]
        running.turn.set()  # as if there had been more, which another worker took
        await asyncio.sleep(0.02)
        put(dispatcher, 1)
        await asyncio.sleep(0.02)
        assert runner.given == [1, 1]
        runner.may_end.release()
        await until(lambda: runner.given == [1, 1, 1])


async def test_what_a_worker_has_but_does_not_run_counts_as_a_whole() -> None:
    runner, settled = OneByOne(), Settled()
    async with dispatching(runner, settled) as dispatcher:
        put(dispatcher, 3)
        await until(lambda: runner.given == [1, 1, 1])
        await asyncio.sleep(SECONDS)  # when nothing should be left of the one that runs
        assert dispatcher.ahead_of({}) == pytest.approx(1, abs=0.1)


async def test_a_batch_that_a_worker_did_not_begin_is_told_from_the_one_it_died_of() -> None:
    runner, settled = OneByOne(), Settled()
    async with dispatching(runner, settled) as dispatcher:
        put(dispatcher, 3)
        await until(lambda: runner.given == [1, 1, 1])
        runner.dies = True
        runner.fall()
        runner.may_end.release()
        await until(lambda: len(settled.batches) == 3)
        assert [type(outcome) for _, outcome in settled.batches[1:]] == [WorkerDiedError, NotRunError]


@pytest.mark.parametrize(
    ("workers", "own", "seconds"),
    [
        (1, {"x": 2}, 0.2),  # shares its batch with others
        (1, {"x": 8}, 0.4),  # two batches
        (2, {"x": 8}, 0.2),  # beside one another
        (1, {"x": 2, "y": 2}, 0.3),
        (2, {"x": 2, "y": 2}, 0.2),  # the longer of them
    ],
)
async def test_a_request_takes_its_longest_batch_or_its_part_of_all_of_them(
    workers: int, own: dict[Hashable, int], seconds: float
) -> None:
    rate = DrainRate()
    runners = Runners([OneByOne() for _ in range(workers)])
    dispatcher = Dispatcher(
        *(runners, Admission(math.inf, rate, time.monotonic), rate, Settled()),
        max_batch=4,
        batch_limit=None,
        observer=Observer(),
    )
    found = dispatcher._soonest(own, {"x": (4, 0.2), "y": (4, 0.1)})
    await dispatcher.stop()
    assert found == pytest.approx(seconds)


@pytest.mark.parametrize(("wait", "refused"), [(8.9, False), (9.1, True)])
async def test_who_waits_for_a_batch_that_runs_has_that_much_less_time(wait: float, refused: bool) -> None:
    runner, clock = OneByOne(), Clock()
    runner.fall()
    rate = DrainRate()
    dispatcher = Dispatcher(
        *(Runners([runner]), Admission(math.inf, rate, clock), rate, Settled()),
        max_batch=4,
        batch_limit=None,
        observer=Observer(),
    )
    job = put(dispatcher, 2, Ticket(2, 10.0, 0.0, behind=True, telling=False))
    dispatcher._refuse_late(wait)
    await dispatcher.stop()
    assert isinstance(job.done.exception() if job.done.done() else None, OverloadedError) == refused
    assert len(dispatcher) == (0 if refused else 2)
