"""One worker process as the event loop sees it, from its start to its end."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

from pcdm_core.scoring import Unit, UnitResult
from service.allocator import ask_for_huge_pages
from service.frames import FrameProtocol, packed
from service.runner import ModelFailedError, NotRunError, RefusedError, WorkerDiedError
from service.worker_process import Failed, Loaded, Ran, Refused, UnitRunner, serve_units

__all__ = ["WorkerLink", "give_way"]

_log: Final = logging.getLogger(__name__)
# Forked from a server that has imported everything and has run no network: a new worker is there within a second, where
# a fresh interpreter would first import for several. None of these imports touches CUDA, which does not survive a fork:
# a worker does, after it, where it puts its networks on a device. This process never does. The second is what torch
# imports at the first derivative: in a worker, that would hold up a batch for a second or two.
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["service.worker_process", "torch.fx.experimental.symbolic_shapes"])
# How often OpenMP's threads look whether they may go on before they sleep. Its own default is to look for ever: that is
# no faster where nothing else runs, and many times slower where anything does, as the one that waits takes the
# processor of the one that it waits for.
_SPINS: Final = "10000"


def _set_environment() -> None:
    # Read by OpenMP and by the C library as they are loaded: by the server that workers are forked from.
    ask_for_huge_pages()
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def give_way(niceness: int) -> None:
    """Let the workers have the processors before this thread, and those that it starts from now on.

    On as many cores as the networks use, an event loop of the same priority holds up batches: it takes a worker's core.
    One that gives way does more of its work between two batches.

    Args:
        niceness: By which to lower this thread's priority, at least 0. Workers keep the present one.
    """
    _set_environment()
    forkserver.ensure_running()  # which the workers have their priority from
    os.nice(niceness)


@dataclass(frozen=True, eq=False)
class _Given:
    """A batch that the worker was given, and has not answered.

    Attributes:
        answer: Comes with its results.
        limit: Seconds that it may run, if there is a limit.
    """

    answer: asyncio.Future[list[UnitResult]]
    limit: float | None


class WorkerLink:
    """One worker process, from its start to its end. All methods belong to the event loop.

    Attributes:
        alive: Whether it has been started, or will be, and has not ended.
        loaded: Comes with what it loaded; a `ModelFailedError`, `RefusedError` or `WorkerDiedError` otherwise.
        ended: Comes when it has ended and nothing is left of it.
    """

    def __init__(self, load: Callable[[Path], UnitRunner], folder: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self.alive = True
        self.loaded: asyncio.Future[Loaded] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._given: deque[_Given] = deque()  # the oldest is the one that it runs
        self._alarm: asyncio.TimerHandle | None = None
        self._killed = False
        self._hung: str | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._process: ForkServerProcess | None = None
        _set_environment()
        self._living = self._loop.create_task(self._live(load, folder))

    async def _live(self, load: Callable[[Path], UnitRunner], folder: Path) -> None:
        try:
            error = await self._talk(load, folder)
        except Exception as raised:  # whatever it was, those who wait must hear of it
            error = raised
        self._bury("the worker ended" if error is None else f"the worker cannot be talked to any more: {error!r}")
        try:
            await _in_thread(self._end)
        except Exception:
            _log.exception("the end of the worker cannot be waited for")
            self.kill()
        if not self.ended.done():
            self.ended.set_result(None)

    async def _talk(self, load: Callable[[Path], UnitRunner], folder: Path) -> Exception | None:
        """Start it, and hear it to its end; returns what was wrong with what was heard, if anything was."""
        lost: asyncio.Future[Exception | None] = self._loop.create_future()
        near_end, far_end = socket.socketpair()
        with far_end, near_end:
            self._transport, _ = await self._loop.create_unix_connection(
                lambda: FrameProtocol(self._receive, lost), sock=near_end
            )
            with contextlib.closing(self._transport):
                arguments = (far_end, load, folder)
                self._process = _CONTEXT.Process(target=serve_units, args=arguments, name="pcdm worker", daemon=True)
                await _in_thread(self._start)
                far_end.close()  # or it would never be lost
                return await lost

    def _start(self) -> None:
        assert self._process is not None
        self._process.start()
        if self._killed:  # while it was being started
            self._process.kill()

    def _end(self) -> None:
        if self._process is not None and self._process.pid is not None:
            self._process.join(1)
            self._process.kill()  # where it lives on without its end
            self._process.join()

    def _receive(self, message: Loaded | Refused | Ran | Failed) -> None:
        future: asyncio.Future[Any] = self._given.popleft().answer if self._given else self.loaded
        self._watch()
        if future.done():  # by a cancellation: nobody waits any more
            return
        match message:
            case Loaded():
                future.set_result(message)
            case Refused(why):
                future.set_exception(RefusedError(why))
            case Ran(results):
                future.set_result(results)
            case Failed(trace):
                future.set_exception(ModelFailedError(trace))

    def _bury(self, fault: str) -> None:
        self.alive = False
        told = fault if self._hung is None else self._hung
        error: type[WorkerDiedError] = WorkerDiedError
        lost: list[asyncio.Future[Any]] = [one.answer for one in self._given]
        for future in lost or [self.loaded]:
            if not future.done():
                future.set_exception(error(told))
            error = NotRunError  # all but the first
        self._given.clear()
        self._watch()

    def _watch(self) -> None:
        """Let time run for the batch that is the oldest now, if there is one."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        limit = self._given[0].limit if self._given else None
        if limit is not None:
            self._alarm = self._loop.call_later(limit, self._give_up, limit, "run a batch")

    @property
    def pid(self) -> int | None:
        """Of the process, once it has been started."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Minus the signal that killed it, or its status; None before its end, and if it was never started."""
        return None if self._process is None else self._process.exitcode

    async def run(self, units: Sequence[Unit], limit: float | None) -> list[UnitResult]:
        """As `Runner.run`."""
        data = packed(list(units))
        given = _Given(self._loop.create_future(), limit)
        self._given.append(given)
        if given is self._given[0]:
            self._watch()
        self._send(data)
        return await given.answer

    @contextlib.contextmanager
    def limited(self, limit: float | None, task: str) -> Iterator[None]:
        """Kill it when what is within takes longer than so many seconds: then that ends as if it had died."""
        alarm = None if limit is None else self._loop.call_later(limit, self._give_up, limit, task)
        try:
            yield
        finally:
            if alarm is not None:
                alarm.cancel()

    def _give_up(self, limit: float, task: str) -> None:
        self._hung = f"the worker took longer than {limit:,.6g} s to {task}, and was killed"
        _log.error("%s (process %d)", self._hung, self.pid or 0)
        self.kill()

    async def stop(self, grace: float) -> None:
        """Let it finish its batch, for at most `grace` seconds."""
        if self.alive and self.loaded.done():
            self._send(packed(None))
            await asyncio.wait([self.ended], timeout=grace)
        self.kill()
        await self.ended

    def kill(self) -> None:
        """End it at once."""
        self._killed = True
        if self._process is not None and self._process.pid is not None:
            self._process.kill()

    def _send(self, data: bytes) -> None:
        """Send it after all that was sent before, without waiting for the worker to read."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


async def _in_thread(call: Callable[[], None]) -> None:
    """Call it in a thread of its own: nobody waits for that where this process ends, nor for a place in a pool."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()  # who waits may be cancelled, the call may not

    def work() -> None:
        try:
            call()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=work, name="worker", daemon=True).start()
    await asyncio.wrap_future(done)
