"""How many units a batch is worth: more of them keep others waiting, and beyond some number gain nothing."""

import functools
import itertools
import math
from collections import deque
from collections.abc import Hashable
from statistics import median
from typing import Final

__all__ = ["BatchSizes"]

# Every so manieth batch is of the next larger or the next smaller size, as their times too are known by chance.
_TRIAL: Final = 8
# Batches after which one that took too long is tried anew: one slow moment is not believed for ever.
_DOUBT: Final = 200
# Batches by which one that takes too long is known: who waits cannot wait for more.
_LATEST: Final = 3


class _Times:
    """Seconds of a unit in batches of one size class.

    Worked out as they are learned: they are asked for several times for each batch.

    Attributes:
        usual: Their median.
        lately: That of the latest few.
    """

    def __init__(self, memory: int) -> None:
        self._latest: deque[float] = deque(maxlen=memory)
        self.usual = self.lately = 0.0

    def add(self, seconds: float) -> None:
        self._latest.append(seconds)
        self.usual = median(self._latest)
        self.lately = median(list(self._latest)[-_LATEST:])


class BatchSizes:
    """Learns, for each bucket, the smallest batch that runs a unit about as fast as any other does.

    On a processor with few cores a batch of sixteen takes half as long as one of thirty-two; on an accelerator both may
    take equally long. Sizes count by 1, 2, 3, 4, 6, 8, 12, 16, ...: those above 8 and up to 12 are taken to be alike.

    Args:
        most: Most units of any batch.
        longest: Seconds that a batch should not take longer than, as those who come meanwhile wait for it.
        brief: Seconds that any batch may take: nothing is gained by less.
        tolerance: By how much, relatively, a unit may take longer in a smaller batch.
        memory: Latest batches of a size of whose times the median counts, but for how long a batch takes in all.
    """

    def __init__(
        self, most: int, *, longest: float = math.inf, brief: float = 0.0, tolerance: float = 0.02, memory: int = 31
    ) -> None:
        self._most = most
        self._longest = longest
        self._brief = brief
        self._tolerance = tolerance
        self._memory = memory
        self._times: dict[Hashable, dict[int, _Times]] = {}  # by size class
        self._batches: dict[Hashable, int] = {}

    def learn(self, bucket: Hashable, size: int, seconds: float) -> None:
        """Note how long a batch took."""
        of_bucket, batches = self._times.setdefault(bucket, {}), self._batches.get(bucket, 0)
        if batches and batches % _DOUBT == 0:
            soon = self._soon(of_bucket)
            for doubtful in [known for known in of_bucket if known > soon]:
                del of_bucket[doubtful]
        size_class = _class_of(size)
        if size_class not in of_bucket:
            of_bucket[size_class] = _Times(self._memory)
        of_bucket[size_class].add(seconds / size)
        self._batches[bucket] = batches + 1

    def worthwhile(self, bucket: Hashable) -> int:
        """Most units that the next batch of this bucket should have, where so many wait."""
        times = self._times.get(bucket)
        if not times:
            return self._most
        soon, batches = self._soon(times), self._batches[bucket]
        if batches >= _DOUBT:  # by steps, as whoever is in a batch that takes too long may be late for it
            soon = min(soon, max(times) + 1)
        chosen = min(soon, self._paying({known: own.usual for known, own in times.items()}))
        if batches % _TRIAL == 0:
            neighbour = chosen + (1 if batches // _TRIAL % 2 else -1)
            chosen = neighbour if 0 <= neighbour <= soon else chosen
        return min(_largest_of(chosen), self._most)

    def seconds(self, bucket: Hashable, size: int) -> float | None:
        """About how long a batch takes; None if there was none of about this size."""
        known = self._times.get(bucket, {}).get(_class_of(size))
        return None if known is None else size * known.usual

    def is_small(self, bucket: Hashable, size: int) -> bool:
        """Whether there were batches of this bucket four size classes above this one, which take less for each unit."""
        return _class_of(size) + 3 < max(self._times.get(bucket, [0]))

    def _soon(self, times: dict[int, _Times]) -> int:
        """The class of what may be done in time, by the latest: more take no less time, and no more for each."""
        chosen, known = _class_of(self._most), [(size, own.lately) for size, own in times.items()]
        while chosen > 0 and max(each * _largest_of(min(size, chosen)) for size, each in known) > self._longest:
            chosen -= 1
        return chosen

    def _paying(self, known: dict[int, float]) -> int:
        """The class of as many as make a unit faster than fewer do."""
        largest = _class_of(self._most)
        if largest not in known:  # nothing is given away before so many have ever waited
            return largest
        chosen = best = min(known, key=known.__getitem__)
        while chosen > 0 and known.get(chosen - 1, 0.0) <= (1 + self._tolerance) * known[best]:
            chosen -= 1
            if chosen not in known:
                break
        while chosen < largest and _largest_of(chosen + 1) * known[best] <= self._brief:
            chosen += 1
        return chosen


@functools.cache
def _largest_of(size_class: int) -> int:
    """The largest size of a class: 1, 2, 3, 4, 6, 8, 12, ..."""
    return (2 + (size_class + 1) % 2 << (size_class - 1) // 2) if size_class else 1


@functools.cache
def _class_of(size: int) -> int:
    """The class of a size of at least 1."""
    return next(known for known in itertools.count() if _largest_of(known) >= size)
