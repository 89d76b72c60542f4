"""Several runners of one model, taken together."""

import asyncio
from collections.abc import Iterator, Sequence

from service.runner import Runner

__all__ = ["Runners"]


class Runners:
    """Runners that have the same model and run batches beside one another.

    On a CPU, processes with a core each are faster than one process with as many threads, as these take turns in all
    that is no large tensor's computation, and wait for each other after each batch. And while one of them is being
    replaced the others go on.

    Args:
        runners: At least one.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self._runners = tuple(runners)

    def __iter__(self) -> Iterator[Runner]:
        """One after the other."""
        return iter(self._runners)

    @property
    def up(self) -> int:
        """How many of them are."""
        return sum(runner.up for runner in self._runners)

    async def until_up(self) -> None:
        """Wait for any of them; raises as `Runner.until_up`."""
        waiting = [asyncio.ensure_future(runner.until_up()) for runner in self._runners]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        for one in done:
            one.result()

    async def until_started(self) -> None:
        """Wait for the first start of all; raises as `Runner.until_started`."""
        for runner in self._runners:
            await runner.until_started()

    @property
    def device(self) -> str | None:
        """As `Runner.device`."""
        return next((runner.device for runner in self._runners if runner.device is not None), None)

    @property
    def restarts(self) -> int:
        """How often any of them had to be started again."""
        return sum(runner.restarts for runner in self._runners)

    async def stop(self) -> None:
        """End all of them, for good."""
        await asyncio.gather(*(runner.stop() for runner in self._runners))
