"""Requests share model batches: their units meet in one queue, in front of one thread that runs the model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pcdm_core.scoring import Fidelity, Score, Scorer, Unit, UnitResult
from service.fair_queue import FairQueue

__all__ = ["Batcher", "ModelFailedError", "StoppedError"]


class ModelFailedError(RuntimeError):
    """The model failed on a batch that held units of this request; its cause says how."""


class StoppedError(RuntimeError):
    """The batcher no longer takes, or no longer finishes, work."""


class _Job:
    """The units of one request, and the results that have arrived."""

    def __init__(self, units: Sequence[Unit], done: asyncio.Future[None]) -> None:
        self.units = list(units)
        self.results: dict[int, UnitResult] = {}
        self.done = done

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def put(self, index: int, result: UnitResult) -> None:
        self.results[index] = result
        if len(self.results) == len(self.units) and not self.done.done():
            self.done.set_result(None)


class Batcher:
    """Scores images of concurrent requests in shared batches.

    A batch leaves at once when the model is idle; while it is busy the queue fills. All methods belong to the event
    loop; only the scorer's own work runs elsewhere, `run` in one thread and `plan` and `combine` (which must not
    depend on state that changes) in a pool.

    Args:
        scorer: What plans, runs and combines.
        max_batch: Most units of one `run`.
    """

    def __init__(self, scorer: Scorer, *, max_batch: int) -> None:
        self._scorer = scorer
        self._max_batch = max_batch
        self._queue: FairQueue[_Job, int] = FairQueue()
        self._jobs: set[_Job] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._busy = False
        self._stopped = False

    async def score(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Score]:
        """Score uint8 images `[N, C, H, W]`, in order, without blocking the event loop.

        Raises:
            ModelFailedError: The model failed on one of these images, or on a batch shared with them.
            StoppedError: The batcher was stopped first.
        """
        units = await asyncio.to_thread(self._scorer.plan, images, settings)
        results = await self.run(units)
        return await asyncio.to_thread(self._scorer.combine, units, results)

    async def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        """Run the units of one request and return their results, aligned. Cancelling drops what has not run yet."""
        if self._stopped:
            raise StoppedError("the service is stopping")
        if not units:
            return []
        job = _Job(units, asyncio.get_running_loop().create_future())
        self._jobs.add(job)
        self._queue.add(job, ((unit.bucket, index) for index, unit in enumerate(units)))
        self._dispatch()
        try:
            await job.done
        finally:
            self._jobs.discard(job)
            self._queue.discard(job)
        return [job.results[index] for index in range(len(units))]

    async def stop(self) -> None:
        """Refuse new work, fail what is under way, and wait for the batch that runs."""
        self._stopped = True
        for job in self._jobs:
            self._queue.discard(job)
            job.fail(StoppedError("the service is stopping"))
        await asyncio.to_thread(self._thread.shutdown)

    def _dispatch(self) -> None:
        if self._busy or self._stopped:
            return
        batch = self._queue.take(self._max_batch)
        if not batch:
            return
        self._busy = True
        units = [job.units[index] for job, index in batch]
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._run_batch, units)
        running.add_done_callback(partial(self._finish, batch))

    def _run_batch(self, units: list[Unit]) -> list[UnitResult]:
        results = self._scorer.run(units)
        if len(results) != len(units):
            raise RuntimeError(f"the scorer gave {len(results)} results for {len(units)} units")
        return results

    def _place(self, job: _Job, index: int, result: UnitResult) -> None:
        """Keep a final result; send a unit that goes on back into the queue, unless nobody waits for it any more."""
        following = self._scorer.follow(job.units[index], result)
        if following is None:
            job.put(index, result)
        elif job in self._jobs and not job.done.done():
            job.units[index] = following
            self._queue.add(job, [(following.bucket, index)])

    def _finish(self, batch: list[tuple[_Job, int]], running: asyncio.Future[list[UnitResult]]) -> None:
        self._busy = False
        error = running.exception()
        if error is None:
            for (job, index), result in zip(batch, running.result(), strict=True):
                self._place(job, index, result)
        else:
            for job in {job for job, _ in batch}:
                failure = ModelFailedError("the model failed on a batch of this request")
                failure.__cause__ = error
                # Discarded here, before the request's own task has had its turn, or the next batch would hold it.
                self._queue.discard(job)
                job.fail(failure)
        self._dispatch()
