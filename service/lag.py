"""How long the event loop lets wait what is due."""

import asyncio
import math
from collections import deque
from typing import Final

__all__ = ["Lag"]

_INTERVAL: Final = 0.05


class Lag:
    """Measures how late the event loop is, as the thread that runs it gives way to others or has much to do.

    A request that arrives meanwhile waits as long before anything is known of it, so its time must be taken to have
    begun earlier. It cannot be measured on the request itself; it is measured on what is due at a known time.

    Args:
        memory: Latest times that count.
        share: Of these that are at most what is said, in (0, 1].

    Attributes:
        seconds: What is due now will wait for at most so long, but for a few exceptions; 0 before anything was
            measured.
    """

    def __init__(self, *, memory: int = 64, share: float = 0.95) -> None:
        self._latest: deque[float] = deque(maxlen=memory)
        self._share = share
        self.seconds = 0.0

    def learn(self, seconds: float) -> None:
        """Note how late something was; a clock's rounding may make it negative."""
        self._latest.append(max(0.0, seconds))
        self.seconds = sorted(self._latest)[math.ceil(self._share * len(self._latest)) - 1]

    async def measure(self) -> None:
        """Learn, until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            due = now() + _INTERVAL
            await asyncio.sleep(_INTERVAL)
            self.learn(now() - due)
