"""How long to wait before something that ended is started again. No clock of its own, no I/O."""

from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Delays that double from one failure to the next, until something has lasted.

    Args:
        clock: Seconds, never going back.
        first: Delay after the first failure, seconds.
        most: Longest delay, seconds.
        lasting: Who stayed up for so many seconds has its earlier failures forgiven.
    """

    def __init__(
        self, clock: Callable[[], float], *, first: float = 0.1, most: float = 30.0, lasting: float = 10.0
    ) -> None:
        self._clock = clock
        self._first = first
        self._most = most
        self._lasting = lasting
        self._next = first
        self._up_since: float | None = None

    def up(self) -> None:
        """Note that the start went well."""
        self._up_since = self._clock()

    def failed(self) -> float:
        """Note a failure, of the start or later, and return how many seconds to wait."""
        if self._up_since is not None and self._clock() - self._up_since >= self._lasting:
            self._next = self._first
        self._up_since = None
        delay, self._next = self._next, min(2 * self._next, self._most)
        return delay
