"""A runner in a process that is watched, and started again when it dies."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pcdm_core.scoring import Unit, UnitResult
from service.backoff import Backoff
from service.runner import ModelFailedError, NotRunError, RefusedError, WorkerDiedError
from service.worker_link import WorkerLink
from service.worker_process import UnitRunner

__all__ = ["Worker"]

_log: Final = logging.getLogger(__name__)


class Worker:
    """A `Runner` in a process of its own, replaced by another whenever it ends.

    Args:
        load: Turns the model's folder into what runs units; can be pickled.
        folder: Of the model.
        digest: That the model has to have, as units are planned for that one.
        backoff: Between an end and the next start.
        grace: Seconds that a batch may still run when the service stops.
        load_limit: Seconds after which a process that has not loaded the model is taken to hang.
    """

    def __init__(
        self,
        load: Callable[[Path], UnitRunner],
        folder: Path,
        digest: str,
        *,
        backoff: Backoff | None = None,
        grace: float = 5.0,
        load_limit: float = 600.0,
    ) -> None:
        self._load = load
        self._folder = folder
        self._digest = digest
        self._backoff = Backoff(time.monotonic) if backoff is None else backoff
        self._grace = grace
        self._load_limit = load_limit
        self._process: WorkerLink | None = None
        self._device: str | None = None
        self._fault: str | None = None
        self._refusal: RefusedError | None = None
        self._changed = asyncio.Event()  # came up, or ended
        self._stopping = False
        self._restarts = 0
        self._keeping = asyncio.create_task(self._keep())

    @property
    def up(self) -> bool:
        """Whether a process is there that has loaded the model."""
        return self._process is not None and self._process.alive

    @property
    def device(self) -> str | None:
        """As `Runner.device`."""
        return self._device

    @property
    def restarts(self) -> int:
        """How often a process was started in the place of another."""
        return self._restarts

    @property
    def pid(self) -> int | None:
        """Of the process, while one is up."""
        return self._process.pid if self._process is not None and self._process.alive else None

    async def until_up(self) -> None:
        """As `Runner.until_up`."""
        while not self.up:
            await self._until_changed()

    async def until_started(self) -> None:
        """As `Runner.until_started`."""
        while self._process is None:
            if self._fault is not None:
                raise WorkerDiedError(self._fault)
            await self._until_changed()

    async def _until_changed(self) -> None:
        if self._refusal is not None:
            raise self._refusal
        self._changed.clear()
        await self._changed.wait()

    async def run(self, units: Sequence[Unit], *, limit: float | None = None) -> list[UnitResult]:
        """As `Runner.run`."""
        if self._process is None or not self._process.alive:
            raise NotRunError("no worker is up")
        return await self._process.run(units, limit)

    async def stop(self) -> None:
        """End the process, after its batch if that does not take long, and start no other."""
        self._stopping = True
        if self._process is not None:
            await self._process.stop(self._grace)
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping

    async def _keep(self) -> None:
        while True:
            process = WorkerLink(self._load, self._folder)
            try:
                fault = await self._watch(process)
            except RefusedError as error:
                self._refusal = error
                self._changed.set()
                return
            finally:
                # Also where the loop itself is being torn down, as by a second Ctrl-C: nothing may outlive it.
                process.kill()
            if self._stopping:
                return
            self._fault = fault
            self._changed.set()
            delay = self._backoff.failed()
            _log.error("%s; another is started in %.2f s", fault, delay)
            await asyncio.sleep(delay)
            self._restarts += 1

    async def _watch(self, process: WorkerLink) -> str:
        """Live through one process, and return how it ended; a `RefusedError`, if none has ever been up, is raised."""
        try:
            with process.limited(self._load_limit, "load the model"):
                loaded = await process.loaded
        except RefusedError as error:
            await process.ended
            if self._process is not None:  # what was there once may come back
                return str(error)
            raise
        except ModelFailedError as error:
            await process.ended
            return f"the worker cannot load the model in {self._folder}: {error}"
        except WorkerDiedError as error:
            await process.ended
            return f"{error}, before it had loaded the model (exit code {process.exit_code})"
        if loaded.digest != self._digest:
            process.kill()
            await process.ended
            return (
                f"the model in {self._folder} has been replaced (by {loaded.digest}): reload it, or restart the service"
            )
        self._process, self._device = process, loaded.device
        self._backoff.up()
        self._changed.set()
        _log.info("the worker is up (process %d) on %s with the model in %s", process.pid, self._device, self._folder)
        await process.ended
        return f"the worker ended (exit code {process.exit_code})"
