"""Requests that are finished by the same batch are judged together, as most of the time goes into the call."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pcdm_core.scoring import Score, Scorer, Unit, UnitResult

__all__ = ["Combiner"]

# Images that are judged sooner than a thread hears of them, and before the event loop is missed.
_AT_ONCE: Final = 8


@dataclass(frozen=True)
class _Finished:
    """A request whose units have all run.

    Attributes:
        units: Of its plan.
        results: Aligned with them.
        images: In its plan.
        scores: Where they are awaited.
    """

    units: Sequence[Unit]
    results: Sequence[UnitResult]
    images: int
    scores: asyncio.Future[list[Score]]


class Combiner:
    """Calls `Scorer.combine` once for all who ask in the same turn of the event loop, to which all methods belong.

    Args:
        scorer: Combines, as a pure function: in a thread of its own where there are many images.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._finished: list[_Finished] = []
        self._combining: set[asyncio.Task[None]] = set()

    async def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        """As `Scorer.combine`. Whoever shares the call with a plan that fails does not fail.

        Raises:
            Exception: Whatever the scorer raises.
        """
        loop = asyncio.get_running_loop()
        images = 1 + max((unit.index for unit in units), default=-1)
        finished = _Finished(units, results, images, loop.create_future())
        self._finished.append(finished)
        if len(self._finished) == 1:
            loop.call_soon(self._begin)
        return await finished.scores

    def _begin(self) -> None:
        together = [one for one in self._finished if not one.scores.done()]  # by a client that hung up
        self._finished = []
        if sum(one.images for one in together) <= _AT_ONCE:
            self._settle(together, self._attempt(together))
            return
        # Kept: the loop itself holds no more than a weak reference.
        combining = asyncio.create_task(self._combine_elsewhere(together))
        self._combining.add(combining)
        combining.add_done_callback(self._combining.discard)

    async def _combine_elsewhere(self, together: list[_Finished]) -> None:
        self._settle(together, await asyncio.to_thread(self._attempt, together))

    def _attempt(self, together: list[_Finished]) -> list[list[Score] | Exception]:
        """Of each its scores, or why it has none."""
        try:
            return list(self._combine(together)) if together else []
        except Exception as error:
            if len(together) == 1:
                return [error]
            return [outcome for one in together for outcome in self._attempt([one])]

    def _combine(self, together: list[_Finished]) -> list[list[Score]]:
        """All plans as one: the images of each after those of the ones before."""
        units: list[Unit] = []
        first = 0
        for one in together:
            units += [replace(unit, index=first + unit.index) for unit in one.units] if first else one.units
            first += one.images
        scores = self._scorer.combine(units, [result for one in together for result in one.results])
        if len(scores) != first:
            raise RuntimeError(f"the scorer gave {len(scores)} scores for {first} images")
        ends = itertools.accumulate(one.images for one in together)
        return [scores[end - one.images : end] for one, end in zip(together, ends, strict=True)]

    def _settle(self, together: list[_Finished], outcomes: list[list[Score] | Exception]) -> None:
        for one, outcome in zip(together, outcomes, strict=True):
            if one.scores.done():
                continue
            if isinstance(outcome, Exception):
                one.scores.set_exception(outcome)
            else:
                one.scores.set_result(outcome)
