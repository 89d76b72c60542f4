"""What the batcher tells of its work, to whoever keeps count of it."""

from collections.abc import Callable
from typing import Literal

__all__ = ["DispatchReason", "Observe", "Observer", "Passage"]

DispatchReason = Literal["idle", "full", "free", "retry"]
"""Why a batch left when it did: the worker had nothing to do; nothing more fitted in; the worker became free, and took
all that fitted together; or an image is tried once more, alone, since the worker died."""


class Passage:
    """The way of one request's units through the queue; this one is not watched."""

    def began(self) -> None:
        """The first of them runs. May be told again."""

    def ended(self) -> None:
        """All of them have run, or nobody waits for them any more. May be told again."""


class Observer:
    """Hears of the work of one batcher; this one forgets it. All calls are of the event loop."""

    def queued(self, units: int) -> Passage:  # noqa: ARG002 - nobody watches
        """A request's units begin to wait; called in the request's own context."""
        return Passage()

    def ran(self, units: int, reason: DispatchReason, seconds: float) -> None:
        """A batch has run, well or not."""


Observe = Callable[[str], Observer]
"""What is told of the work done for a model, by its name."""
