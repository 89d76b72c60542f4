"""How many steps a unit takes until it is done. No clock, no I/O."""

from collections.abc import Hashable
from typing import Final

__all__ = ["StepCounts"]

# Weight of what was known, when something new is learned.
_MEMORY: Final = 0.95


class StepCounts:
    """Learns, for each bucket, how many steps its units take: a solver goes on until it is content."""

    def __init__(self) -> None:
        self._steps: dict[Hashable, float] = {}

    def expected(self, bucket: Hashable) -> float:
        """Steps of a unit, about; 1 before any was seen to the end."""
        return self._steps.get(bucket, 1.0)

    def learn(self, bucket: Hashable, steps: int) -> None:
        """Note how many steps a unit took in all."""
        known = self._steps.get(bucket)
        self._steps[bucket] = steps if known is None else _MEMORY * known + (1 - _MEMORY) * steps
