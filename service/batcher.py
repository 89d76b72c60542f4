"""Requests share model batches: their units meet in one queue, in front of the workers that run the model."""

import asyncio
import contextlib
import math
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from pcdm_core.scoring import Fidelity, Score, Scorer, Unit, UnitResult
from service.admission import Admission, DrainRate
from service.combiner import Combiner
from service.dispatcher import Batch, Dispatcher, Outcome
from service.job import Item, Job
from service.observer import Observer
from service.runner import ModelFailedError, NotRunError, WorkerDiedError
from service.runners import Runners
from service.step_counts import StepCounts

__all__ = ["Batcher", "StoppedError"]


class StoppedError(RuntimeError):
    """The batcher no longer takes, or no longer finishes, work."""


class Batcher:
    """Scores images of concurrent requests in shared batches.

    Units go through the workers as `Dispatcher` says. All methods belong to the event loop; `plan`, which must not
    depend on state that changes, runs in a pool of threads where there are several images, and `combine` as `Combiner`
    says.

    A batch that the worker does not survive is tried once more, image by image: whoever only shared it with the image
    at fault is answered as if nothing had happened.

    Args:
        scorer: What plans and combines where a request brings no other.
        runners: What runs the batches, each one at a time.
        max_batch: Most units of one batch, and most cost of it: one costs at most as much as an evaluation of the
            largest network, unless it is a solver step.
        max_queue_cost: Most cost of units that wait or run.
        batch_limit: Seconds after which the worker is taken to hang in a batch of cost `max_batch` or less; a single
            unit of more cost has as much more time.
        clock: Seconds, by which the work is measured.
        observer: Is told of requests and batches.
    """

    def __init__(
        self,
        scorer: Scorer,
        runners: Runners,
        *,
        max_batch: int,
        max_queue_cost: float,
        batch_limit: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
    ) -> None:
        self._scorer = scorer
        self._combiners: dict[Scorer, Combiner] = {}
        self._observer = Observer() if observer is None else observer
        rate = DrainRate(lambda: runners.up)
        self._admission = Admission(max_queue_cost, rate, clock)
        self._steps = StepCounts()
        self._jobs: set[Job] = set()
        self._dispatcher = Dispatcher(
            runners,
            self._admission,
            rate,
            self._ended,
            max_batch=max_batch,
            batch_limit=batch_limit,
            clock=clock,
            observer=self._observer,
        )
        self._stopped = False
        self._image_costs: dict[tuple[Scorer, Fidelity], dict[Hashable, float]] = {}

    @property
    def backlog(self) -> float:
        """Cost of the units that wait or run."""
        return self._admission.backlog

    @property
    def is_busy(self) -> bool:
        """Whether any request is under way."""
        return bool(self._jobs)

    @property
    def pending(self) -> int:
        """Units that wait or run."""
        return sum(len(job.units) - len(job.results) for job in self._jobs if not job.done.done())

    def check_room(
        self, images: int, settings: Fidelity, until: float = math.inf, scorer: Scorer | None = None
    ) -> None:
        """Make sure that there is room for so many images, before anything is spent on them.

        An image costs what it did when the last one was planned at these settings, and nothing before the first.

        Raises:
            OverloadedError: As `score`.
        """
        if not self.is_busy:  # nobody to wait for
            return
        of_image = self._image_costs.get((scorer or self._scorer, settings), {})
        costs = {bucket: images * cost for bucket, cost in of_image.items()}
        self._admission.check(math.fsum(costs.values()), ahead=self._dispatcher.ahead_of(costs), within=_left(until))

    async def score(
        self, images: NDArray[np.uint8], settings: Fidelity, until: float = math.inf, scorer: Scorer | None = None
    ) -> list[Score]:
        """Score uint8 images `[N, C, H, W]`, in order, without blocking the event loop.

        Cancelling drops what has not run yet.

        Args:
            images: Images.
            settings: What to compute.
            until: When the answer should be ready, by the event loop's clock.
            scorer: Plans and combines instead of the batcher's own. Its units are run by the same runner, and share
                batches with those of others.

        Raises:
            ModelFailedError: The model failed on one of these images, or on a batch shared with them.
            OverloadedError: Too much work waits already, in all or for an answer in time; or what was before it took
                longer than was foretold, and most of its work is still to be done.
            WorkerDiedError: The worker died twice of one of these images.
            StoppedError: The batcher was stopped first.
        """
        scorer = scorer or self._scorer
        if len(images) == 1:  # planned sooner than a thread hears of it
            units = scorer.plan(images, settings)
        else:
            units = await asyncio.to_thread(scorer.plan, images, settings)
        costs = self._costs_of(units, self._whole_costs(units))
        self._image_costs[scorer, settings] = {bucket: cost / max(1, len(images)) for bucket, cost in costs.items()}
        async with self._admitted(units, until) as job:
            results = await job.ran()
            if scorer not in self._combiners:
                self._combiners[scorer] = Combiner(scorer)
            return await self._combiners[scorer].combine(units, results)

    @contextlib.asynccontextmanager
    async def _admitted(self, units: Sequence[Unit], until: float) -> AsyncIterator[Job]:
        """A request under way: what has not run is dropped where this is left."""
        if self._stopped:
            raise StoppedError("the service is stopping")
        costs = self._whole_costs(units)
        ahead = self._dispatcher.ahead_of(self._costs_of(units, costs))
        ticket = self._admission.admit(math.fsum(costs), ahead=ahead, within=_left(until))
        passage = self._observer.queued(len(units))
        job = Job(units, costs, ticket, asyncio.get_running_loop().create_future(), passage)
        self._jobs.add(job)
        for index in range(len(units)):
            self._dispatcher.put(job, Item(index))
        try:
            yield job
        finally:
            self._jobs.discard(job)
            self._dispatcher.drop(job)
            self._admission.release(ticket)
            passage.ended()

    async def stop(self) -> None:
        """Refuse new work and fail what is under way, without waiting for a batch that nobody waits for any more."""
        self._stopped = True
        for job in self._jobs:
            self._dispatcher.drop(job)
            job.fail(StoppedError("the service is stopping"))
        await self._dispatcher.stop()

    def _whole_costs(self, units: Sequence[Unit]) -> list[float]:
        """Cost of each with all the steps that it is expected to take."""
        return [unit.cost * self._steps.expected(unit.bucket) for unit in units]

    @staticmethod
    def _costs_of(units: Sequence[Unit], costs: Sequence[float]) -> dict[Hashable, float]:
        """Cost of all units of a bucket, by bucket."""
        found: dict[Hashable, float] = defaultdict(float)
        for unit, cost in zip(units, costs, strict=True):
            found[unit.bucket] += cost
        return found

    def _ended(self, batch: Batch, outcome: Outcome) -> float:
        """Give everybody what is theirs of a batch; the cost of what was run."""
        match outcome:
            case NotRunError():
                for job, item in batch:
                    if self._is_awaited(job):
                        self._dispatcher.put(job, item)
            case WorkerDiedError():
                self._retry(batch, outcome)
            case Exception():
                self._fail(batch, ModelFailedError("the model failed on a batch of this request"), outcome)
            case _:
                return self._place_all(batch, outcome)
        return 0.0

    def _place_all(self, batch: Batch, results: Sequence[UnitResult]) -> float:
        done = 0.0
        try:
            for (job, item), result in zip(batch, results, strict=True):
                cost = job.units[item.index].cost
                self._place(job, item.index, result)
                done += cost
        except Exception as error:
            self._fail(batch, ModelFailedError("the model failed on a batch of this request"), error)
        return done

    def _place(self, job: Job, index: int, result: UnitResult) -> None:
        """Keep a final result; send a unit that goes on back into the queue, unless nobody waits for it any more."""
        following = self._scorer.follow(job.units[index], result)
        if following is None:
            self._steps.learn(job.units[index].bucket, job.steps[index])
            job.put(index, result)
            return
        job.steps[index] += 1
        job.ticket.prolong()
        if self._is_awaited(job):
            job.units[index] = following
            self._dispatcher.put(job, Item(index))

    def _retry(self, batch: Batch, error: WorkerDiedError) -> None:
        """Give every image of a batch that the worker died of a batch of its own; fail one that had its own."""
        if batch[0][1].alone:
            self._fail(batch, WorkerDiedError("the worker died twice of an image of this request"), error)
            return
        for job, item in batch:
            if self._is_awaited(job):
                self._dispatcher.put(job, Item(item.index, alone=True))

    def _fail(self, batch: Batch, failure: Exception, cause: Exception) -> None:
        failure.__cause__ = cause
        for job in {job for job, _ in batch}:
            # Discarded here, before the request's own task has had its turn, or the next batch would hold it.
            self._dispatcher.drop(job)
            job.fail(failure)

    def _is_awaited(self, job: Job) -> bool:
        return job in self._jobs and not job.done.done()


def _left(until: float) -> float:
    """Seconds until then."""
    return max(0.0, until - asyncio.get_running_loop().time())
