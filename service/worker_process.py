"""What runs in the worker process: units in, results out, until the pipe closes."""

import contextlib
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from pcdm_core.model import UnavailableError
from pcdm_core.scoring import Unit, UnitResult
from service.allocator import keep_freed_memory

__all__ = ["Failed", "Loaded", "Ran", "Refused", "UnitRunner", "serve_units"]


class UnitRunner(Protocol):
    """The part of a scorer that needs the device."""

    @property
    def digest(self) -> str:
        """Of the model."""
        ...

    @property
    def device(self) -> str:
        """Where its networks are."""
        ...

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        """As `Scorer.run`."""
        ...


@dataclass(frozen=True)
class Loaded:
    """The worker takes units now.

    Attributes:
        digest: Of the model that it loaded.
        device: Where its networks are.
    """

    digest: str
    device: str


@dataclass(frozen=True)
class Refused:
    """What networks were to be run with is not there.

    Attributes:
        why: Names it, and what is there.
    """

    why: str


@dataclass(frozen=True)
class Ran:
    """A batch is done.

    Attributes:
        results: Aligned with its units.
    """

    results: list[UnitResult]


@dataclass(frozen=True)
class Failed:
    """An exception was raised, by loading or by a batch; as text, since not every exception can be sent.

    Attributes:
        trace: Its traceback.
    """

    trace: str


def serve_units(pipe: Connection, load: Callable[[Path], UnitRunner], folder: Path) -> None:
    """Load the model, then run every batch that is sent; return when told to (``None``) or when nobody is left to tell.

    Args:
        pipe: To the process that started this one. Only the two ends of it write to it: what is unpickled here was
            pickled there.
        load: Turns the model's folder into what runs units.
        folder: Of the model.
    """
    # Signals reach every process of a terminal or of a service manager's group; when to end is for the API to say.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
    with contextlib.suppress(EOFError, OSError):  # the other end was closed, or its process killed
        try:
            runner = load(folder)
        except UnavailableError as error:
            pipe.send(Refused(str(error)))
            return
        except Exception:
            pipe.send(Failed(traceback.format_exc()))
            return
        pipe.send(Loaded(runner.digest, runner.device))
        while (units := pipe.recv()) is not None:
            pipe.send(_run(runner, units))


def _run(runner: UnitRunner, units: list[Unit]) -> Ran | Failed:
    try:
        return Ran(runner.run(units))
    except MemoryError as error:
        # A fresh process has all the memory that there is, and then runs this batch image by image.
        raise SystemExit(f"the worker is out of memory, and ends: {error}") from error
    except Exception:
        return Failed(traceback.format_exc())
