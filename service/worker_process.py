"""What runs in the worker process: units in, results out, until the pipe closes."""

import contextlib
import signal
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pcdm_core.model import UnavailableError
from pcdm_core.scoring import Unit, UnitResult
from service.allocator import keep_freed_memory
from service.frames import packed, read_frame

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

    def __reduce__(self) -> tuple[Callable[..., "Ran"], tuple[Any, ...]]:
        """Sent as one array, where it can be: dozens of small ones take several times as long at both ends."""
        shapes = {one.values.shape for one in self.results}
        if len(shapes) == 1 and all(one.state is None for one in self.results):
            return _of_rows, (np.stack([one.values for one in self.results]),)
        return Ran, (self.results,)


def _of_rows(values: NDArray[np.float64]) -> Ran:
    return Ran([UnitResult(row) for row in values])


@dataclass(frozen=True)
class Failed:
    """An exception was raised, by loading or by a batch; as text, since not every exception can be sent.

    Attributes:
        trace: Its traceback.
    """

    trace: str


def serve_units(end: socket.socket, load: Callable[[Path], UnitRunner], folder: Path) -> None:
    """Load the model, then run every batch that is sent; return when told to (``None``) or when nobody is left to tell.

    Args:
        end: To the process that started this one.
        load: Turns the model's folder into what runs units.
        folder: Of the model.
    """
    # Signals reach every process of a terminal or of a service manager's group; when to end is for the API to say.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
    # The other end may be closed at any time, or its process killed.
    with contextlib.suppress(EOFError, OSError), end, end.makefile("rb") as sent:
        try:
            runner = load(folder)
        except UnavailableError as error:
            end.sendall(packed(Refused(str(error))))
            return
        except Exception:
            end.sendall(packed(Failed(traceback.format_exc())))
            return
        end.sendall(packed(Loaded(runner.digest, runner.device)))
        while (units := read_frame(sent)) is not None:
            end.sendall(packed(_run(runner, units)))


def _run(runner: UnitRunner, units: list[Unit]) -> Ran | Failed:
    try:
        return Ran(runner.run(units))
    except MemoryError as error:
        # A fresh process has all the memory that there is, and then runs this batch image by image.
        raise SystemExit(f"the worker is out of memory, and ends: {error}") from error
    except Exception:
        return Failed(traceback.format_exc())
