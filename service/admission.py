"""How much work may wait, and when to come again if it is too much. No clock of its own, no I/O."""

import math
from collections.abc import Callable, Hashable
from typing import Final, Self

__all__ = ["Admission", "DrainRate", "OverloadedError", "Reserve", "Ticket"]

_LONGEST_RETRY: Final = 300
# What subtracting the costs of all units one by one may leave of their sum.
_ROUNDING: Final = 1e-9
# Most of a request's time that is kept back, as a share, and seconds after which half of it is forgotten.
_MOST_KEPT: Final = 0.5
_HALF_LIFE: Final = 60.0
# Share of a request's time without which its answer comes too late, as it has still to be sent.
_SENDING: Final = 0.01


class OverloadedError(RuntimeError):
    """So much work waits that this request is not taken, or not kept.

    Args:
        retry_after: Whole seconds after which there should be room, at least 1.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too much work is waiting; there should be room in {retry_after} s")
        self.retry_after = retry_after

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The one that tells to come again in about so many seconds, neither at once nor in very many."""
        return cls(min(max(1, math.ceil(seconds)), _LONGEST_RETRY))


class _Pace:
    """How fast the work of one bucket is.

    Attributes:
        cost: Of the batches that count, older ones weighing less and less.
        seconds: That they took, likewise.
        done: Cost of all batches, likewise.
        under_pressure: Whether there was any that was not small.
    """

    def __init__(self) -> None:
        self.cost = self.seconds = self.done = 0.0
        self.under_pressure = False


class DrainRate:
    """Cost that is run in a second of work: its mean over the recent past, older work weighing less and less.

    What waits is run in batches that are as large as pays. So small ones, that left as no more waited, count only as
    long as there were no others. That is so of each bucket by itself, and what each takes counts by its share of all
    work: a request by itself has small batches of some buckets, and of others those that are as large as ever.

    Args:
        workers: How many do such work at the same time, now.
        memory: Seconds of work after which a batch weighs 1/e.
    """

    def __init__(self, workers: Callable[[], int] = lambda: 1, *, memory: float = 10.0) -> None:
        self._workers = workers
        self._memory = memory
        self._paces: dict[Hashable, _Pace] = {}
        self._each = 0.0  # seconds of one worker for a cost of 1; 0 before anything was measured

    def learn(self, bucket: Hashable, cost: float, seconds: float, *, small: bool = False, lost: bool = False) -> None:
        """Note how long a batch took, and what it did.

        Args:
            bucket: Of it.
            cost: Of what was run, every step of a solver being something: nothing, if it failed.
            seconds: That it took.
            small: Whether it left since no more waited: as nothing else ran, or with less in it than others have had.
            lost: Whether the worker did not survive it: then its time says nothing of how fast the next one is.
        """
        if lost:
            return
        own, kept = self._paces.setdefault(bucket, _Pace()), math.exp(-seconds / self._memory)
        for pace in self._paces.values():
            pace.done *= kept
        own.done += cost
        if not (small and own.under_pressure):
            if not small and not own.under_pressure:
                own.under_pressure = True
                own.cost = own.seconds = 0.0
            own.cost = kept * own.cost + cost
            own.seconds = kept * own.seconds + seconds
        known = [pace for pace in self._paces.values() if pace.cost > 0]
        done = math.fsum(pace.done for pace in known)
        self._each = math.fsum(pace.done * pace.seconds / pace.cost for pace in known) / done if done > 0 else 0.0

    def seconds(self, cost: float) -> float:
        """About how long all workers together will take for so much; 0 before anything was measured."""
        return cost * self._each / max(1, self._workers())

    def cost(self, seconds: float) -> float:
        """About how much all workers finish in that time; without limit before anything was measured."""
        return self.of_one(seconds) * max(1, self._workers())

    def of_one(self, seconds: float) -> float:
        """About how much one worker finishes in that time; without limit before anything was measured."""
        return seconds / self._each if self._each > 0 else math.inf


class Reserve:
    """The share of a request's time that is kept back, as work takes longer now and then than its rate foretells.

    It grows with each request that is late and shrinks with each that is not, by steps that are in balance where one in
    `1 / late` is late, however the delays are distributed and whether or not it is known how long the late ones would
    have taken. (Gibbs, Candes, "Adaptive conformal inference under distribution shift", NeurIPS 2021, equation 2.)
    Requests that were admitted before it last grew are late for a cause that it has grown for, and do not make it grow
    again: when the machine stands still for a moment, all who wait are late at once. Where nothing is learned it is
    forgotten, by half each minute.

    Args:
        clock: Seconds, never going back.
        least: What is kept back in any case, as a share in [0, 0.5].
        late: Share of the requests that may be late in the long run, in (0, 1).
        step: By how much a late request makes it grow, about.
    """

    def __init__(
        self, clock: Callable[[], float], *, least: float = 0.0, late: float = 0.002, step: float = 0.05
    ) -> None:
        self._clock = clock
        self._least = least
        self._late = late
        self._step = step
        self._share = least
        self._at = clock()
        self._grown = -math.inf

    def left(self, within: float) -> float:
        """What is left of so many seconds; never less than `rest`."""
        return within * (1 - self._now())

    @staticmethod
    def rest(within: float) -> float:
        """What is always left of so many seconds, so that one bad moment does not close the door for long."""
        return within * (1 - _MOST_KEPT)

    def learn(self, late: bool, admitted: float) -> None:
        """Note whether a request was late, and when it was admitted."""
        if late and admitted < self._grown:
            return
        self._grown = self._clock() if late else self._grown
        self._share = min(self._now() + self._step * (late - self._late), _MOST_KEPT)
        self._at = self._clock()

    def _now(self) -> float:
        return max(self._least, self._share * math.exp2((self._at - self._clock()) / _HALF_LIFE))


class Ticket:
    """An admitted request.

    Attributes:
        left: Cost of its units that are not finished.
        within: Seconds that it had when it was admitted.
        admitted: When that was, by the clock of the one who admits.
        behind: Whether anything was before it.
        telling: Whether it says something of how much time to keep back: it would have been refused for more, and no
            more turned out to be to do than was planned.
    """

    def __init__(self, cost: float, within: float, admitted: float, *, behind: bool, telling: bool) -> None:
        self.left = cost
        self.within = within
        self.admitted = admitted
        self.behind = behind
        self.telling = telling

    def finish(self, cost: float) -> None:
        """Note that a unit of this cost has its final result."""
        left = self.left - cost
        self.left = left if left > _ROUNDING else 0.0

    def prolong(self) -> None:
        """Note that a unit goes on: how often it will was not known."""
        self.telling = False


class Admission:
    """Bounds the cost of all units that wait or run, and takes no request that would be answered too late.

    A request of more than a whole limit is taken when there is no other before it, as it could never be otherwise.

    Args:
        limit: Most cost.
        rate: Measures how fast it drains.
        clock: Seconds, never going back.
        reserve: Least share of a request's time that is kept back at the door, see `Reserve`. With less, a little more
            is answered under load, but who waits longest waits as much longer.
    """

    def __init__(self, limit: float, rate: DrainRate, clock: Callable[[], float], *, reserve: float = 0.2) -> None:
        self._limit = limit
        self._rate = rate
        self._clock = clock
        self._reserve = Reserve(clock, least=reserve)
        self._tickets: set[Ticket] = set()

    @property
    def backlog(self) -> float:
        """Cost of all that is admitted and not finished."""
        return math.fsum(ticket.left for ticket in self._tickets)

    def admit(self, cost: float, *, ahead: float = 0.0, within: float = math.inf) -> Ticket:
        """Take a request, until it is released; arguments and errors as of `check`."""
        self.check(cost, ahead=ahead, within=within)
        # What would be taken whatever is kept back, as nothing is before it or there is time enough, may be late for
        # many reasons, but not for this one.
        telling = ahead > 0 and ahead + cost > self._rate.cost(self._reserve.rest(within))
        ticket = Ticket(cost, within, self._clock(), behind=ahead > 0, telling=telling)
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
            min(ahead + cost - self._rate.cost(self._reserve.left(within)), ahead),
        )
        if excess > 0:
            raise OverloadedError.after(self._rate.seconds(excess))

    def check_still(self, ticket: Ticket, needed: float) -> None:
        """Make sure that an admitted request would still be in time.

        Half as much is kept back as at the door: it is sooner now, and to have waited for nothing is worse.

        Args:
            ticket: Of it.
            needed: Seconds that it takes from now on, about.

        Raises:
            OverloadedError: It would not, as those before it took longer than was foretold.
        """
        left = (ticket.within + self._reserve.left(ticket.within)) / 2
        late = self._clock() + needed - ticket.admitted - left
        if late > 0:
            raise OverloadedError.after(late)

    def release(self, ticket: Ticket) -> None:
        """Forget a request: answered, or given up."""
        if ticket not in self._tickets:
            return
        self._tickets.discard(ticket)
        if not ticket.telling:
            return
        late = self._clock() - ticket.admitted >= (1 - _SENDING) * ticket.within
        # One that was given up before its time says nothing.
        if late or not ticket.left:
            self._reserve.learn(late, ticket.admitted)
