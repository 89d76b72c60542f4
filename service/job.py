"""A request on its way through the batches."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pcdm_core.scoring import Unit, UnitResult
from service.admission import Ticket
from service.observer import Passage

__all__ = ["Item", "Job"]


class Job:
    """The units of one request, and the results that have arrived.

    Args:
        units: Of its plan.
        costs: Of each unit with all its steps, as far as they are known.
        ticket: With which it was admitted.
        done: Comes with the last result, or with why there is none.
        passage: Watches it.

    Attributes:
        steps: That each unit has taken, or is taking.
        begun: Cost of what batches have had of it.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        costs: Sequence[float],
        ticket: Ticket,
        done: asyncio.Future[None],
        passage: Passage,
    ) -> None:
        self.passage = passage
        self.units = list(units)
        self.costs = costs
        self.steps = [1] * len(units)
        self.begun = 0.0
        self._whole = math.fsum(costs)
        self.ticket = ticket
        self.results: dict[int, UnitResult] = {}
        self.done = done

    @property
    def may_be_refused(self) -> bool:
        """Whether anything was before it, and no batch has had most of its work, which can still be saved.

        One that nothing was before may take as long as it will: it would not be sooner another time.
        """
        return self.ticket.behind and 2 * self.begun < self._whole

    def fail(self, error: Exception) -> None:
        """End it without an answer, unless it has ended."""
        if not self.done.done():
            self.done.set_exception(error)

    def put(self, index: int, result: UnitResult) -> None:
        """Keep the final result of a unit."""
        self.results[index] = result
        self.ticket.finish(self.costs[index])
        if len(self.results) == len(self.units) and not self.done.done():
            self.done.set_result(None)

    async def ran(self) -> list[UnitResult]:
        """Wait for the results of all units, aligned."""
        if self.units:
            await self.done
        self.passage.ended()
        return [self.results[index] for index in range(len(self.units))]


@dataclass(frozen=True)
class Item:
    """A unit in the queue.

    Attributes:
        index: Of the unit in its job.
        alone: Whether it runs with units of its own image only, since the worker died when it last ran.
    """

    index: int
    alone: bool = False
