"""Who runs next: waiting items of many owners, grouped by bucket, taken fairly. No clock, no I/O, no lock."""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

Owner = TypeVar("Owner", bound=Hashable)
Item = TypeVar("Item")


class FairQueue(Generic[Owner, Item]):
    """A queue whose batches hold items of one bucket, from as many owners as wait there.

    Owners take turns to lead a batch. The leader's bucket is the batch's bucket; it fills one item an owner at a time,
    leader first. So every waiting owner has items in a batch after at most one batch of each other owner, however many
    items those have, and within a bucket the small owners are finished first.
    """

    def __init__(self) -> None:
        # Insertion order is the order of turns; no owner and no bucket is kept empty.
        self._waiting: dict[Owner, dict[Hashable, deque[Item]]] = {}
        self._leader: Owner | None = None

    def __len__(self) -> int:
        """Count the items that wait."""
        return sum(len(lane) for lanes in self._waiting.values() for lane in lanes.values())

    def add(self, owner: Owner, items: Iterable[tuple[Hashable, Item]]) -> None:
        """Append `(bucket, item)` pairs; a new owner's turn comes last."""
        for bucket, item in items:
            self._waiting.setdefault(owner, {}).setdefault(bucket, deque()).append(item)

    def discard(self, owner: Owner) -> None:
        """Forget everything an owner still has waiting."""
        self._waiting.pop(owner, None)

    def take(self, limit: int) -> list[tuple[Owner, Item]]:
        """Remove the next batch: at most `limit` items, all of one bucket, oldest first for each owner."""
        # The last leader goes to the back only now: whoever arrived while its batch ran is ahead of it.
        if self._leader is not None and self._leader in self._waiting:
            self._waiting[self._leader] = self._waiting.pop(self._leader)
        self._leader = next(iter(self._waiting), None)
        if self._leader is None:
            return []
        bucket = next(iter(self._waiting[self._leader]))
        lanes = deque((owner, own[bucket]) for owner, own in self._waiting.items() if bucket in own)
        batch: list[tuple[Owner, Item]] = []
        while lanes and len(batch) < limit:
            owner, lane = lanes.popleft()
            batch.append((owner, lane.popleft()))
            if lane:
                lanes.append((owner, lane))
            else:
                self._drop_bucket(owner, bucket)
        return batch

    def _drop_bucket(self, owner: Owner, bucket: Hashable) -> None:
        del self._waiting[owner][bucket]
        if not self._waiting[owner]:
            del self._waiting[owner]
