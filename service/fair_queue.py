"""Who runs next: waiting items of many owners, grouped by bucket, taken fairly. No clock, no I/O, no lock."""

import math
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

__all__ = ["FairQueue"]

# Items that are not worth a batch of their own, as any batch takes some time whatever is in it.
_LEAST_SHARE: Final = 6
# Share of a batch that each part of what several owners wait for must have, where other takers have other work:
# together it is less than in parts.
_LEAST_OF_MANY: Final = 0.6
# Share of a batch that is enough, where the next owner would have to be parted to fill it.
_ENOUGH: Final = 0.75
# What adding up the costs of a share may differ from it by.
_ROUNDING: Final = 1e-9

Owner = TypeVar("Owner", bound=Hashable)
Item = TypeVar("Item")


class _Portion(Generic[Owner, Item]):
    """Items of one owner that cost about a batch together, and when they would be done if all owners shared alike.

    Attributes:
        owner: Whose they are.
        finish: Virtual time at which the last of them would be done.
        cost: Of those that wait.
        room: Cost for which there is room.
    """

    def __init__(self, owner: Owner, start: float, room: float) -> None:
        self.owner = owner
        self.finish = start
        self.cost = 0.0
        self.room = room
        # No bucket is kept empty.
        self.lanes: dict[Hashable, deque[tuple[Item, float]]] = {}

    def add(self, bucket: Hashable, item: Item, cost: float) -> None:
        self.lanes.setdefault(bucket, deque()).append((item, cost))
        self.finish += cost
        self.cost += cost
        self.room -= cost

    @property
    def dearest(self) -> Hashable:
        """The bucket whose items cost most together."""
        return max(self.lanes, key=self.cost_of)

    def cost_of(self, bucket: Hashable) -> float:
        """Cost of the items of a bucket together."""
        return math.fsum(cost for _, cost in self.lanes[bucket])

    def pop(self, bucket: Hashable) -> Item:
        lane = self.lanes[bucket]
        item, cost = lane.popleft()
        if not lane:
            del self.lanes[bucket]
        self.cost -= cost
        return item


class FairQueue(Generic[Owner, Item]):
    """A queue whose batches hold items of one bucket, from as many owners as wait there.

    Were the worker shared out evenly at every moment, then each owner would be done at some time: in this order they
    are served, one after the other. So nobody is done later than by even shares, most are done sooner, and owners who
    want equally much are served in the order in which they came. (Friedman, Henderson, "Fairness and efficiency in web
    server protocols", SIGMETRICS 2003; time is virtual here, the cost that an owner of an even share has been served.)
    What an owner wants is cut into portions of about a batch, each with a place of its own in that order: however many
    items an owner has, and however dear they are, it holds up any other for about one batch.

    The first in order leads a batch, and its dearest bucket is the batch's bucket; the others fill it up, in the same
    order. Several takers are so done with an owner soonest: what takes longest begins first, and what is left evens
    out. (Graham, "Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 1969.) Whom a batch that is nearly
    full has no room for as a whole, but one of its own would have, waits for the next one, as a part of it would be
    answered no sooner.

    Args:
        max_items: Most items of a batch.
        max_cost: Most cost of a batch; a dearer item is a batch of its own.

    Attributes:
        full: Whether the last batch had no room left, or none for what had to stay.
    """

    def __init__(self, *, max_items: int, max_cost: float) -> None:
        self._max_items = max_items
        self._max_cost = max_cost
        # Of each owner, those with items, oldest first; insertion order decides between equals.
        self._waiting: dict[Owner, list[_Portion[Owner, Item]]] = {}
        # Virtual time up to which an owner has asked, until it is discarded.
        self._asked: dict[Owner, float] = {}
        self._now = 0.0
        self._last_batch = 0.0
        self.full = False

    def __len__(self) -> int:
        """Count the items that wait."""
        return sum(len(lane) for portion in self._portions() for lane in portion.lanes.values())

    def add(self, owner: Owner, bucket: Hashable, item: Item, cost: float) -> None:
        """Append an item. How much an owner has asked for is remembered until it is discarded."""
        portions = self._waiting.setdefault(owner, [])
        if not portions or portions[-1].room < cost:
            start = max(self._asked.get(owner, 0.0), self._now)
            portions.append(_Portion(owner, start, self._max_cost))
        portions[-1].add(bucket, item, cost)
        self._asked[owner] = portions[-1].finish

    def discard(self, owner: Owner) -> None:
        """Forget an owner, and everything it still has waiting."""
        self._waiting.pop(owner, None)
        self._asked.pop(owner, None)

    @property
    def owners(self) -> list[Owner]:
        """Those who wait."""
        return list(self._waiting)

    def counts(self, owner: Owner | None = None) -> Counter[Hashable]:
        """Items that wait in each bucket: of one owner, who waits, or of all."""
        found: Counter[Hashable] = Counter()
        for portion in self._portions() if owner is None else self._waiting[owner]:
            found.update({bucket: len(lane) for bucket, lane in portion.lanes.items()})
        return found

    def ahead_of(self, cost: float) -> float:
        """Cost of what would run before the last item of an owner who came now and wanted so much."""
        return sum(portion.cost for portion in self._portions() if portion.finish <= self._now + cost)

    def take(
        self, worthwhile: Callable[[Hashable], int] | None = None, *, takers: int = 1, running: float = 0.0
    ) -> list[tuple[Owner, Item]]:
        """Remove the next batch: items of one bucket, oldest first for each owner; empty if nothing waits.

        No batch is so large that the other takers, with all else, would be done before it, unless it would have, or
        leave of its bucket, too little: where several owners share it and there is other work, that is less than most
        of a batch.

        Args:
            worthwhile: Most items that a batch of a bucket should have, if fewer than it may.
            takers: How many take batches, this one included.
            running: Cost of what the others have still to do of theirs.
        """
        # The last batch counts only now: whoever arrived while it ran is ahead of those who were in it.
        self._now += self._last_batch
        self._last_batch = 0.0
        portions = sorted(self._portions(), key=lambda portion: portion.finish)
        if not portions:
            return []
        owners = len(self._waiting)
        bucket = portions[0].dearest
        most = self._max_items if worthwhile is None else min(worthwhile(bucket), self._max_items)
        share = (math.fsum(portion.cost for portion in portions) + running) / takers
        batch, spent = self._fill(portions, bucket, most, share)
        self._last_batch = spent / owners
        for owner in {portion.owner for portion in portions if not portion.lanes}:
            self._tidy(owner)
        return batch

    def _portions(self) -> list[_Portion[Owner, Item]]:
        return [portion for portions in self._waiting.values() for portion in portions]

    def _fill(
        self, portions: list[_Portion[Owner, Item]], bucket: Hashable, most: int, share: float
    ) -> tuple[list[tuple[Owner, Item]], float]:
        """The batch, and what it costs."""
        batch: list[tuple[Owner, Item]] = []
        spent = 0.0
        there = [portion for portion in portions if bucket in portion.lanes]
        left = sum(len(portion.lanes[bucket]) for portion in there)
        wholes = [portion.cost_of(bucket) for portion in there]
        rest = math.fsum(wholes)
        several = any(portion.owner != there[0].owner for portion in there)
        least = _LEAST_OF_MANY if several and any(portion.lanes.keys() - {bucket} for portion in portions) else 0.0
        for portion, whole in zip(there, wholes, strict=True):
            size = len(portion.lanes[bucket])
            enough = len(batch) >= _ENOUGH * most or spent >= _ENOUGH * self._max_cost
            fits_alone = size <= most and whole <= self._max_cost
            if enough and fits_alone and (len(batch) + size > most or spent + whole > self._max_cost):
                self.full = True
                return batch, spent
            while bucket in portion.lanes:
                cost = portion.lanes[bucket][0][1]
                self.full = len(batch) == most or bool(batch and spent + cost > self._max_cost)
                parts = (len(batch), spent), (left, rest)
                if self.full or (spent > share - _ROUNDING and self._may_be_apart(parts, most, least)):
                    return batch, spent
                batch.append((portion.owner, portion.pop(bucket)))
                spent += cost
                left -= 1
                rest -= cost
        self.full = len(batch) == most or spent >= self._max_cost
        return batch, spent

    def _may_be_apart(self, parts: Iterable[tuple[int, float]], most: int, least: float) -> bool:
        """Whether each, so many items of so much cost, is worth a batch, and at least so much of one: by either."""
        return all(items >= _LEAST_SHARE and max(items / most, cost / self._max_cost) >= least for items, cost in parts)

    def _tidy(self, owner: Owner) -> None:
        left = [portion for portion in self._waiting[owner] if portion.lanes]
        if left:
            self._waiting[owner] = left
        else:
            del self._waiting[owner]
