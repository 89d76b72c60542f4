"""What answers requests: the model for planning, the worker that runs it, and whether both are there."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pcdm_core.data import Preprocessing
from pcdm_core.scoring import Fidelity, FidelityName, Scorer
from service.batcher import Batcher
from service.observer import Observer
from service.problems import ProblemError
from service.settings import Settings
from service.worker import Runner, Worker

__all__ = ["Engine", "Launch", "Load", "ServedModel", "ServedScorer", "launch_worker"]

_log: Final = logging.getLogger(__name__)


class ServedScorer(Scorer, Protocol):
    """A scorer that also says what it is, as `CascadeScorer` does."""

    @property
    def model_name(self) -> str: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def fidelities(self) -> Mapping[FidelityName, Fidelity]: ...  # noqa: D102

    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102

    @property
    def alpha(self) -> float | None: ...  # noqa: D102

    @property
    def calibration_size(self) -> int | None: ...  # noqa: D102


Load = Callable[[Path], ServedScorer]
"""Turns the model's folder into a scorer; runs in a thread, and once more in every worker process."""

Launch = Callable[[Load, Path, ServedScorer], Runner]
"""Starts what runs the units that the scorer plans."""


def launch_worker(load: Load, folder: Path, scorer: ServedScorer) -> Runner:
    """Run units in a process of their own: this one never runs a network."""
    return Worker(load, folder, scorer.digest)


@dataclass(frozen=True)
class ServedModel:
    """What is there once the model is loaded.

    Attributes:
        scorer: Plans and combines; its networks stay idle.
        runner: Runs them.
        batcher: Between the two.
    """

    scorer: ServedScorer
    runner: Runner
    batcher: Batcher


class Engine:
    """The model of one application: being loaded, served, drained, stopped, or failed.

    Args:
        settings: What the deployment chose.
        load: See `Load`.
        launch: See `Launch`.
        observe: What is told of the work done for a model, by its name.

    Attributes:
        failure: Why the model could not be loaded; None if it could, or is not yet.
    """

    def __init__(
        self,
        settings: Settings,
        load: Load,
        launch: Launch,
        observe: Callable[[str], Observer] = lambda _: Observer(),
    ) -> None:
        self._settings = settings
        self._observe = observe
        self._load = load
        self._launch = launch
        self._loaded: ServedModel | None = None
        self._detail = "the model is being loaded"
        self._draining = False
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.failure: Exception | None = None

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """What is loaded, whether or not its worker is up."""
        return () if self._loaded is None else (self._loaded,)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load in the background, so that the server can already say that it is not ready; stop at the end."""
        loading = asyncio.create_task(self._load_in_thread())
        try:
            yield
        finally:
            self._draining = True
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading
            if self._loaded is not None:
                await self._loaded.batcher.stop()
                await self._loaded.runner.stop()

    async def drain(self) -> None:
        """Refuse new requests, and wait for those under way."""
        self._draining = True
        await self._idle.wait()

    @contextlib.contextmanager
    def serving(self) -> Iterator[ServedModel]:
        """For one request: what answers it, which stays there until the request is done.

        Raises:
            ProblemError: The 503 that says why there is nothing.
        """
        loaded = self.ready()
        self._requests += 1
        self._idle.clear()
        try:
            yield loaded
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    def ready(self) -> ServedModel:
        """What answers requests now.

        Raises:
            ProblemError: The 503 that says why there is nothing.
        """
        if self._draining:
            raise _unavailable("stopping", "the service is stopping")
        if self._loaded is None:
            raise _unavailable("not-ready", self._detail)
        if not self._loaded.runner.up:
            raise _unavailable("not-ready", "the worker that runs the model is being started")
        return self._loaded

    async def _load_in_thread(self) -> None:
        folder = self._settings.model
        try:
            scorer = await asyncio.to_thread(self._load, folder)
        except Exception as error:
            self.failure, self._detail = error, "the model could not be loaded; the log says why"
            # An unfit folder is explained by its message alone; anything else is a fault of ours, to be traced.
            unfit = isinstance(error, (ValueError, OSError))
            _log.error("cannot load the model in %s: %s", folder, error, exc_info=not unfit)
            return
        runner = self._launch(self._load, folder, scorer)
        batcher = Batcher(
            scorer,
            runner,
            max_batch=self._settings.max_batch,
            max_queue_cost=self._settings.max_queue_cost,
            observer=self._observe(scorer.model_name),
        )
        self._loaded = ServedModel(scorer, runner, batcher)
        await runner.until_up()
        _log.info("serving %s (%s)", scorer.model_name, scorer.digest)


def _unavailable(slug: str, detail: str) -> ProblemError:
    # A worker is back within about a second, and a stopping server's successor may be there already.
    return ProblemError(503, slug, detail, retry_after=1)
