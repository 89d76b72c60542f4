"""How much work may wait, and when to come again if it is too much. No clock of its own, no I/O."""

import math
from collections.abc import Callable
from typing import Final

__all__ = ["Admission", "DrainRate", "Lateness", "OverloadedError", "Ticket"]

_LONGEST_RETRY: Final = 300
# What subtracting the costs of all units one by one may leave of their sum.
_ROUNDING: Final = 1e-9


class OverloadedError(RuntimeError):
    """So much work waits that this request is not taken.

    Args:
        retry_after: Whole seconds after which there should be room, at least 1.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too much work is waiting; there should be room in {retry_after} s")
        self.retry_after = retry_after


class DrainRate:
    """Cost that is finished in a second of work: its mean over the recent past, older work weighing less and less.

    What waits is run in batches that are as large as pays. So batches that left with next to nothing in them, as the
    worker was idle, count only as long as there were no others.

    Args:
        clock: Seconds, never going back.
        memory: Seconds of work after which a batch weighs 1/e.
    """

    def __init__(self, clock: Callable[[], float], *, memory: float = 10.0) -> None:
        self._clock = clock
        self._memory = memory
        self._began = 0.0
        self._cost = 0.0
        self._seconds = 0.0
        self._under_pressure = False

    def begin(self) -> None:
        """Note that a batch begins."""
        self._began = self._clock()

    def end(self, cost: float, *, idle: bool = False) -> float:
        """Note that it has ended, and what it finished.

        Args:
            cost: Of what is finished: nothing, if it failed or none of its units was a last step.
            idle: Whether it left since nothing else ran.

        Returns:
            Seconds that it took.
        """
        took = self._clock() - self._began
        if idle and self._under_pressure:
            return took
        if not idle and not self._under_pressure:
            self._under_pressure = True
            self._cost = self._seconds = 0.0
        kept = math.exp(-took / self._memory)
        self._cost = kept * self._cost + cost
        self._seconds = kept * self._seconds + took
        return took

    def seconds(self, cost: float) -> float:
        """About how long so much will take; 0 before anything was measured."""
        return cost * self._seconds / self._cost if self._cost > 0 else 0.0

    def cost(self, seconds: float) -> float:
        """About how much is finished in that time; without limit before anything was measured."""
        return seconds * self._cost / self._seconds if self._cost > 0 else math.inf


class Lateness:
    """How much later than foretold requests are answered, with a margin for those that are later than most.

    As TCP judges when an answer is overdue, by the mean of what was seen lately and its mean deviation (Jacobson,
    "Congestion avoidance and control", SIGCOMM 1988).
    """

    def __init__(self) -> None:
        self._mean = 0.0
        self._deviation = 0.0

    def left(self, within: float) -> float:
        """What is left of so many seconds: half at least, so that one bad moment does not close the door for long."""
        return within - min(max(0.0, self._mean + 2 * self._deviation), within / 2)

    def learn(self, late: float) -> None:
        """Note that a request was answered so much later than was foretold, in seconds; earlier, if negative."""
        error = late - self._mean
        self._mean += error / 8
        self._deviation += (abs(error) - self._deviation) / 4


class Ticket:
    """An admitted request.

    Attributes:
        left: Cost of its units that are not finished.
        due: When it should be finished, by the clock of the one who admits; None where there turned out to be more to
            do than was planned.
    """

    def __init__(self, cost: float, due: float) -> None:
        self.left = cost
        self.due: float | None = due

    def finish(self, cost: float) -> None:
        """Note that a unit of this cost has its final result."""
        left = self.left - cost
        self.left = left if left > _ROUNDING else 0.0

    def prolong(self) -> None:
        """Note that a unit goes on: nothing was foretold of that."""
        self.due = None


class Admission:
    """Bounds the cost of all units that wait or run, and takes no request that would be answered too late.

    A request of more than a whole limit is taken when there is no other before it, as it could never be otherwise.

    Args:
        limit: Most cost.
        rate: Measures how fast it drains.
        clock: Seconds, never going back.
    """

    def __init__(self, limit: float, rate: DrainRate, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._rate = rate
        self._clock = clock
        self._lateness = Lateness()
        self._tickets: set[Ticket] = set()

    @property
    def backlog(self) -> float:
        """Cost of all that is admitted and not finished."""
        return math.fsum(ticket.left for ticket in self._tickets)

    def admit(self, cost: float, *, ahead: float = 0.0, within: float = math.inf) -> Ticket:
        """Take a request, until it is released; arguments and errors as of `check`."""
        self.check(cost, ahead=ahead, within=within)
        ticket = Ticket(cost, self._clock() + self._rate.seconds(ahead + cost))
        self._tickets.add(ticket)
        return ticket

    def check(self, cost: float, *, ahead: float = 0.0, within: float = math.inf) -> None:
        """Make sure that a request would be taken now.

        Args:
            cost: Of its units.
            ahead: Cost of what would run before it is done.
            within: Seconds after which its answer is of no use.

        Raises:
            OverloadedError: There is no room for it, or not in time.
        """
        backlog = self.backlog
        excess = max(
            min(backlog + cost - self._limit, backlog),
            min(ahead + cost - self._rate.cost(self._lateness.left(within)), ahead),
        )
        if excess > 0:
            raise OverloadedError(min(max(1, math.ceil(self._rate.seconds(excess))), _LONGEST_RETRY))

    def release(self, ticket: Ticket) -> None:
        """Forget a request, finished or not."""
        if ticket not in self._tickets:
            return
        self._tickets.discard(ticket)
        if ticket.due is None:
            return
        late = self._clock() - ticket.due
        # One that was given up says only that it would have been later than that.
        if late > 0 or not ticket.left:
            self._lateness.learn(late)
