"""What waits is put into batches, and a worker is given its next one shortly before it is done with the one it runs."""

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final

from pcdm_core.scoring import Unit, UnitResult
from service.admission import Admission, DrainRate, OverloadedError
from service.batch_sizes import BatchSizes
from service.fair_queue import FairQueue
from service.job import Item, Job
from service.observer import DispatchReason, Observer
from service.runner import NotRunError, Runner, WorkerDiedError
from service.runners import Runners

__all__ = ["Batch", "Dispatcher", "Outcome"]

# Seconds that a batch takes at most, where its units are known and can be parted: a solver's steps take long.
_LONGEST: Final = 0.45
# Seconds that are never too long.
_BRIEF: Final = 0.1
# Share of a batch's time, at its end, in which the next one is sent to the worker, which would have nothing to do from
# its answer until then. Who comes meanwhile is not in that, so no sooner.
_AHEAD: Final = 0.25
# Share of a batch that another worker runs, of what came later, while a request's last batch is with one.
_ELSEWHERE: Final = 0.75

Batch = Sequence[tuple[Job, Item]]
"""Units that run together, each of a request."""

Outcome = Sequence[UnitResult] | Exception
"""Of a batch: results, aligned with it, or why there are none."""


class _Held:
    """A batch that a worker has, and runs as soon as it is done with those that it had before.

    Attributes:
        cost: Of it.
        expected: Seconds that it takes, about; None if that is not known.
        began: When that was; None before.
        ended: Comes when the worker is done with it.
        turn: Comes when it is time to send the next one: then at the latest.
    """

    def __init__(self, cost: float, expected: float | None, began: float | None) -> None:
        self.cost = cost
        self.expected = expected
        self.began = began
        self.ended = asyncio.Event()
        self.turn = asyncio.Event()

    def left(self, now: float) -> float:
        """About the seconds until it ends; none where that is not known."""
        return 0.0 if self.expected is None or self.began is None else max(0.0, self.began + self.expected - now)

    def end(self) -> None:
        self.ended.set()
        self.turn.set()


class Dispatcher:
    """The way of units through the workers. All methods belong to the event loop.

    A batch leaves at once when a worker is idle; while all are busy, or not up, the queue fills. Where more waits than
    the workers do meanwhile, one that will soon be done is sent its next batch ahead. A request that cannot be in time
    any more fails with an `OverloadedError` before a batch has most of its work.

    Args:
        runners: What runs the batches, each one at a time.
        admission: Says who would be too late.
        rate: Learns how fast that is.
        settle: Is told how each batch ended, and says the cost of what was run.
        max_batch: Most units of one batch, and most cost of it.
        batch_limit: Seconds after which the worker is taken to hang in a batch of cost `max_batch` or less; a single
            unit of more cost has as much more time.
        clock: Seconds, by which the work is measured.
        observer: Is told of batches.
    """

    def __init__(
        self,
        runners: Runners,
        admission: Admission,
        rate: DrainRate,
        settle: Callable[[Batch, Outcome], float],
        *,
        max_batch: int,
        batch_limit: float | None,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer,
    ) -> None:
        self._runners = runners
        self._admission = admission
        self._rate = rate
        self._settle = settle
        self._max_batch = max_batch
        self._batch_limit = batch_limit
        self._clock = clock
        self._observer = observer
        # Smaller batches would be answered a little sooner; but under load it is the work that has no room to spare.
        self._sizes = BatchSizes(max_batch, longest=_LONGEST, brief=_BRIEF, tolerance=0.0)
        self._queue: FairQueue[Job, Item] = FairQueue(max_items=max_batch, max_cost=max_batch)
        self._waiting = asyncio.Event()
        self._latest: dict[Hashable, float] = {}  # cost of the latest batch of a bucket
        self._held: dict[Runner, list[_Held]] = {runner: [] for runner in runners}  # oldest first, two at most
        self._tasks = {asyncio.create_task(self._work(runner)) for runner in runners}

    def __len__(self) -> int:
        """Count the units that wait."""
        return len(self._queue)

    def put(self, job: Job, item: Item) -> None:
        """Let a unit wait for its batch."""
        unit = job.units[item.index]
        bucket: Hashable = (unit.bucket, job, unit.index) if item.alone else unit.bucket
        self._queue.add(job, bucket, item, unit.cost)
        self._waiting.set()

    def drop(self, job: Job) -> None:
        """Forget what waits of a request."""
        self._queue.discard(job)

    def ahead_of(self, costs: Mapping[Hashable, float]) -> float:
        """Cost of what runs before a request is done, besides its own: what is before it, and what shares its batches.

        Those who come later are in the batches of those who came before, as far as there is room: where others wait,
        that is as much of each bucket as the latest batch had. And while one worker has the last of these batches, the
        others run most of one that is nobody's concern here.

        Args:
            costs: Of the request's units, by bucket.
        """
        ahead = self._under_way + self._queue.ahead_of(math.fsum(costs.values()))
        batches = {bucket: max(self._latest.get(bucket, 0.0), cost) for bucket, cost in costs.items()}
        company = math.fsum(batches[bucket] - cost for bucket, cost in costs.items())
        elsewhere = _ELSEWHERE * max(0, self._runners.up - 1) * max(batches.values(), default=0.0)
        return ahead + min(ahead, company + elsewhere)

    async def stop(self) -> None:
        """Begin nothing more, and wait for nothing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, runner: Runner) -> None:
        held = self._held[runner]
        while True:
            idle = not self._waiting.is_set()
            await self._waiting.wait()
            idle = idle and runner.up
            await runner.until_up()
            self._refuse_late(held[0].left(self._clock()) if held else 0.0)
            batch = self._queue.take(self._sizes.worthwhile, takers=self._runners.up, running=self._under_way)
            if not batch:
                self._waiting.clear()
                if held:  # what comes now is for a worker that has nothing to do
                    await held[-1].ended.wait()
                continue
            units = [job.units[item.index] for job, item in batch]
            cost = self._latest[units[0].bucket] = math.fsum(unit.cost for unit in units)
            for (job, _), unit in zip(batch, units, strict=True):
                job.begun += unit.cost
            expected = self._sizes.seconds(units[0].bucket, len(units))
            own = _Held(cost, expected, None if held else self._clock())
            held.append(own)
            running = asyncio.create_task(self._run(runner, batch, units, own, self._reason(batch, idle)))
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)
            if held[0] is not own:
                await held[0].ended.wait()
            await self._turn(own)

    def _refuse_late(self, wait: float) -> None:
        """Refuse who would hardly be in time any more even if it were the next, before most of its work is done.

        Args:
            wait: Seconds until the next batch runs.
        """
        batches: dict[Hashable, tuple[int, float]] | None = None
        for job in self._queue.owners:
            if not job.may_be_refused:
                continue
            batches = batches or self._next_batches()
            try:
                self._admission.check_still(job.ticket, wait + self._soonest(self._queue.counts(job), batches))
            except OverloadedError as error:
                self._queue.discard(job)
                job.fail(error)
                batches = None  # which are smaller without it

    def _next_batches(self) -> dict[Hashable, tuple[int, float]]:
        """The size of the next batch of each bucket, and the seconds that it takes: none where that is not known."""
        sizes = {bucket: min(count, self._sizes.worthwhile(bucket)) for bucket, count in self._queue.counts().items()}
        return {bucket: (size, self._sizes.seconds(bucket, size) or 0.0) for bucket, size in sizes.items()}

    def _soonest(self, own: Mapping[Hashable, int], batches: Mapping[Hashable, tuple[int, float]]) -> float:
        """About the seconds that a request takes whose units are the next; of a solver, its next step alone.

        Args:
            own: How many units of it wait, by bucket.
            batches: As of `_next_batches`.
        """
        each = [(count / batches[bucket][0], batches[bucket][1]) for bucket, count in own.items()]
        whole = math.fsum(seconds * max(1.0, share) for share, seconds in each)
        return max(max(seconds for _, seconds in each), whole / max(1, self._runners.up))

    async def _turn(self, running: _Held) -> None:
        """Wait until it is time for the next batch."""
        if running.expected is None or running.began is None:
            await running.turn.wait()
            return
        lead = _AHEAD * running.expected
        wait = running.left(self._clock()) - lead
        early = asyncio.get_running_loop().call_later(max(0.0, wait), self._look_ahead, running, lead)
        try:
            await running.turn.wait()
        finally:
            early.cancel()

    def _look_ahead(self, running: _Held, lead: float) -> None:
        """Let the next batch go early, unless another worker might have nothing to do before this one begins it."""
        if self._rate.seconds(self._queue.ahead_of(math.inf)) > lead:
            running.turn.set()

    async def _run(
        self, runner: Runner, batch: Batch, units: Sequence[Unit], own: _Held, reason: DispatchReason
    ) -> None:
        for job, _ in batch:
            job.passage.began()
        outcome = await self._outcome_of(runner, units)
        now, held = self._clock(), self._held[runner]
        held.remove(own)
        if held:
            held[0].began = now
        try:
            done = self._settle(batch, outcome)
        finally:
            own.end()
        if own.began is None or isinstance(outcome, NotRunError):
            return
        bucket, took = units[0].bucket, now - own.began
        small = reason == "idle" or (reason == "free" and self._sizes.is_small(bucket, len(units)))
        self._rate.learn(bucket, done, took, small=small, lost=isinstance(outcome, WorkerDiedError))
        if not isinstance(outcome, Exception) and reason != "retry":  # of whose buckets there is one for each image
            self._sizes.learn(bucket, len(units), took)
        self._observer.ran(len(batch), reason, took)

    async def _outcome_of(self, runner: Runner, units: Sequence[Unit]) -> Outcome:
        """Results, or why there are none: not in the frame that has them, which an error knows, and would keep."""
        try:
            results = await runner.run(units, limit=self._limit(units))
            if len(results) != len(units):
                raise RuntimeError(f"the scorer gave {len(results)} results for {len(units)} units")
        except Exception as error:
            return error
        return results

    @property
    def _under_way(self) -> float:
        """About the cost of what is left of the batches that the workers have."""
        now = self._clock()
        return math.fsum(
            one.cost if one.began is None else max(0.0, one.cost - self._rate.of_one(now - one.began))
            for held in self._held.values()
            for one in held
        )

    def _reason(self, batch: Batch, idle: bool) -> DispatchReason:
        if batch[0][1].alone:
            return "retry"
        if self._queue.full:
            return "full"
        return "idle" if idle else "free"

    def _limit(self, units: Sequence[Unit]) -> float | None:
        if self._batch_limit is None:
            return None
        return self._batch_limit * max(1.0, math.fsum(unit.cost for unit in units) / self._max_batch)
