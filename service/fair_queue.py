"""Who runs next: waiting items of many owners, grouped by bucket, taken fairly. No clock, no I/O, no lock."""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

Owner = TypeVar("Owner", bound=Hashable)
Item = TypeVar("Item")


class FairQueue(Generic[Owner, Item]):
    """A queue whose batches hold items of one bucket, from as many owners as wait there.

    The owner that has been served least, by cost, leads a batch. The leader's bucket is the batch's bucket; it fills
    one item an owner at a time, leader first. So however many items an owner has, and however dear they are, it runs
    ahead of any other that waits by about one batch, and within a bucket the small owners are finished first.

    A newcomer counts as served as much as those who wait have been on average: it neither overtakes them for all that
    they had before it came, nor pays for it. (This is fair queueing by a virtual time.)

    Args:
        max_items: Most items of a batch.
        max_cost: Most cost of a batch; a dearer item is a batch of its own.

    Attributes:
        full: Whether the last batch had no room left, or none for what had to stay.
    """

    def __init__(self, *, max_items: int, max_cost: float) -> None:
        self._max_items = max_items
        self._max_cost = max_cost
        # Insertion order decides between equals; no owner and no bucket is kept empty.
        self._waiting: dict[Owner, dict[Hashable, deque[tuple[Item, float]]]] = {}
        self._served: dict[Owner, float] = {}
        self._leader: Owner | None = None
        self._average = 0.0
        self._last_batch = 0.0
        self.full = False

    def __len__(self) -> int:
        """Count the items that wait."""
        return sum(len(lane) for lanes in self._waiting.values() for lane in lanes.values())

    def add(self, owner: Owner, bucket: Hashable, item: Item, cost: float) -> None:
        """Append an item. What an owner has been served is remembered until it is discarded."""
        if owner not in self._waiting:
            self._served[owner] = max(self._served.get(owner, 0.0), self._average)
        self._waiting.setdefault(owner, {}).setdefault(bucket, deque()).append((item, cost))

    def discard(self, owner: Owner) -> None:
        """Forget an owner, and everything it still has waiting."""
        self._waiting.pop(owner, None)
        self._served.pop(owner, None)

    def take(self) -> list[tuple[Owner, Item]]:
        """Remove the next batch: items of one bucket, oldest first for each owner; empty if nothing waits."""
        # The last batch counts only now: whoever arrived while it ran is ahead of those who were in it.
        self._average += self._last_batch
        self._last_batch = 0.0
        if self._leader is not None and self._leader in self._waiting:
            self._waiting[self._leader] = self._waiting.pop(self._leader)
        self._leader = min(self._waiting, key=self._served.__getitem__, default=None)
        if self._leader is None:
            return []
        owners = [self._leader, *(owner for owner in self._waiting if owner != self._leader)]
        batch, costs = self._fill(owners, next(iter(self._waiting[self._leader])))
        spent = sum(costs.values())
        self._last_batch = spent / len(owners)
        # Room that nobody else had a use for is given away: whoever took it waits for no more than one batch for it.
        most = self._average + max(self._max_cost, spent)
        for owner, cost in costs.items():
            self._served[owner] = min(self._served[owner] + cost, max(self._served[owner], most))
        return batch

    def _fill(self, owners: list[Owner], bucket: Hashable) -> tuple[list[tuple[Owner, Item]], dict[Owner, float]]:
        """The batch, and what each owner has in it."""
        lanes = deque((owner, self._waiting[owner][bucket]) for owner in owners if bucket in self._waiting[owner])
        batch: list[tuple[Owner, Item]] = []
        costs: dict[Owner, float] = {}
        spent = 0.0
        while lanes and len(batch) < self._max_items:
            owner, lane = lanes.popleft()
            item, cost = lane[0]
            if batch and spent + cost > self._max_cost:
                lanes.appendleft((owner, lane))
                break
            lane.popleft()
            batch.append((owner, item))
            costs[owner] = costs.get(owner, 0.0) + cost
            spent += cost
            if lane:
                lanes.append((owner, lane))
            else:
                self._drop_bucket(owner, bucket)
        self.full = bool(lanes) or len(batch) >= self._max_items or spent >= self._max_cost
        return batch, costs

    def _drop_bucket(self, owner: Owner, bucket: Hashable) -> None:
        del self._waiting[owner][bucket]
        if not self._waiting[owner]:
            del self._waiting[owner]
