"""What runs batches, as those see it who have batches to run; and how that may fail."""

from collections.abc import Sequence
from typing import Protocol

from pcdm_core.scoring import Unit, UnitResult

__all__ = ["ModelFailedError", "NotRunError", "RefusedError", "Runner", "WorkerDiedError"]


class ModelFailedError(RuntimeError):
    """The model raised an exception on a batch; the message is its traceback, or the cause says how."""


class RefusedError(ValueError):
    """What the deployment wants networks to be run with is not there: another worker would say so too."""


class WorkerDiedError(RuntimeError):
    """The process that ran a batch ended before it answered."""


class NotRunError(WorkerDiedError):
    """It ended before it began with the batch, which is not at fault."""


class Runner(Protocol):
    """Runs batches in the order in which it is given them, one at a time, away from the event loop."""

    @property
    def up(self) -> bool:
        """Whether a batch would be run now."""
        ...

    async def until_up(self) -> None:
        """Wait for that, whatever fails meanwhile.

        Raises:
            RefusedError: The first start was refused, so there will be no other.
        """
        ...

    async def until_started(self) -> None:
        """Wait for the first start alone.

        Raises:
            WorkerDiedError: It failed; says how.
            RefusedError: As `until_up`.
        """
        ...

    @property
    def device(self) -> str | None:
        """Where the networks run; None before the first start has ended well."""
        ...

    @property
    def restarts(self) -> int:
        """How often what runs them had to be started again."""
        ...

    async def run(self, units: Sequence[Unit], *, limit: float | None = None) -> list[UnitResult]:
        """Results of units of one bucket, in order.

        Args:
            units: Of one bucket.
            limit: Seconds after which the worker is taken to hang, and is ended; from when it begins with these.

        Raises:
            ModelFailedError: The model raised an exception.
            NotRunError: The worker ended before it began with these.
            WorkerDiedError: The worker ended while it ran these.
        """
        ...

    async def stop(self) -> None:
        """End the worker, for good."""
        ...
