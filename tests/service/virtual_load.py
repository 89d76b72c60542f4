"""A real batcher under load, in front of workers that compute nothing and take their time, of which none passes.

The event loop's clock goes on as soon as nobody has anything to do, to the moment at which somebody has: a minute of
load takes a second, and goes the same way every time.
"""

import asyncio
import functools
import random
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from service_doubles import ONE_CALL, SteeredScorer

from pcdm_core.scoring import Fidelity, Score, Unit, UnitResult
from service.admission import OverloadedError
from service.batcher import Batcher
from service.runners import Runners

__all__ = ["Load", "in_virtual_time"]

DEADLINE = 1.0
EACH = 5
"""Units of an image in each bucket."""
COSTS = {"dear": 1.0, "cheap": 0.02, "cheapest": 0.01}
"""Of a unit, as the scorer says it. The worker takes as long for each, like an accelerator that is far from full."""


class _Skipping(selectors.SelectSelector):
    """Waits for nothing, and notes for how long it should have."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that never comes"
            self.now += max(0.0, timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is that of the selector; threads must not take part, as they take no time."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


def in_virtual_time(test: Callable[["Load"], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that has a load, on a clock of its own."""

    async def with_load() -> None:
        load = Load()
        try:
            await test(load)
        finally:
            await load.stop()

    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
            runner.run(with_load())

    del run.__wrapped__  # or pytest takes it for a coroutine
    return run


class SeveralBuckets(SteeredScorer):
    """Plans some units in each of several buckets: more than there are workers."""

    def plan(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Unit]:
        return [
            Unit(index, image, 1, node, 0, settings, cost, (bucket,))
            for index, image in enumerate(images)
            for bucket, cost in COSTS.items()
            for node in range(EACH)
        ]

    def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        own = [pair for pair in zip(units, results, strict=True) if (pair[0].node, *pair[0].bucket) == (0, "dear")]
        return super().combine(*zip(*own, strict=True))


class SimulatedRunner:
    """Takes a time for each batch and one for each unit, which vary.

    Attributes:
        slowness: As a multiple of its usual times.
    """

    up, device, restarts = True, "cpu", 0

    def __init__(self, seed: int) -> None:
        self.slowness = 1.0
        self._random = random.Random(seed)
        self._one_at_a_time = asyncio.Lock()

    async def until_up(self) -> None:
        pass

    async def until_started(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def run(self, units: Sequence[Unit], *, limit: float | None = None) -> list[UnitResult]:  # noqa: ARG002
        async with self._one_at_a_time:
            await asyncio.sleep((0.02 + 0.008 * len(units)) * self.slowness * self._random.uniform(0.8, 1.25))
        return [UnitResult(np.zeros(1))] * len(units)


class Load:
    """Requests of one image each that arrive at random at a batcher with two workers, each in time within a second.

    Attributes:
        runners: The workers.
        outcomes: How many of the latest requests were ``answered``, ``refused`` and ``late``.
    """

    def __init__(self) -> None:
        self.runners = [SimulatedRunner(seed) for seed in (1, 2)]
        clock = asyncio.get_running_loop().time
        self._batcher = Batcher(SeveralBuckets(), Runners(self.runners), max_batch=40, max_queue_cost=1e4, clock=clock)
        self._random = random.Random(3)
        self.outcomes: Counter[str] = Counter()

    async def one_after_the_other(self, count: int) -> None:
        """Requests of which each has the workers for itself."""
        self.outcomes.clear()
        for _ in range(count):
            await self._ask()

    async def arrive(self, rate: float, seconds: float) -> None:
        """So many requests a second, whether or not others are answered."""
        self.outcomes.clear()
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as crowd:
            while asyncio.get_running_loop().time() < until:
                crowd.create_task(self._ask())
                await asyncio.sleep(self._random.expovariate(rate))

    def share(self, outcome: str) -> float:
        """Of the latest requests, that had this outcome."""
        return self.outcomes[outcome] / self.outcomes.total()

    async def stop(self) -> None:
        await self._batcher.stop()

    async def _ask(self) -> None:
        until = asyncio.get_running_loop().time() + DEADLINE
        try:
            async with asyncio.timeout_at(until):
                self._batcher.check_room(1, ONE_CALL, until)
                await self._batcher.score(np.zeros((1, 1, 1, 1), np.uint8), ONE_CALL, until)
            self.outcomes["answered"] += 1
        except OverloadedError:
            self.outcomes["refused"] += 1
        except TimeoutError:
            self.outcomes["late"] += 1
