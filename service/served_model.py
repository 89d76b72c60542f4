"""One model that is loaded, with the workers that run it and the requests that it answers."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pcdm_core.data import Preprocessing
from pcdm_core.scoring import CascadeScorer, Execution, Fidelity, FidelityName, Score, Scorer
from service.batcher import Batcher
from service.drift import DriftWindow
from service.observer import Observe
from service.runner import Runner
from service.runners import Runners
from service.settings import Settings
from service.worker import Worker

__all__ = ["Launch", "Load", "ServedModel", "ServedScorer", "launch_worker", "load_for_verdicts", "load_prepared"]


class ServedScorer(Scorer, Protocol):
    """A scorer that also says what it is, as `CascadeScorer` does."""

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def device(self) -> str: ...  # noqa: D102

    @property
    def scales(self) -> int: ...  # noqa: D102

    @property
    def parameters(self) -> int: ...  # noqa: D102

    @property
    def fidelities(self) -> Mapping[FidelityName, Fidelity]: ...  # noqa: D102

    @property
    def detectors(self) -> Mapping[str, "ServedScorer"]: ...  # noqa: D102

    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102

    @property
    def alpha(self) -> float | None: ...  # noqa: D102

    @property
    def detector(self) -> str | None: ...  # noqa: D102

    @property
    def calibration_size(self) -> int | None: ...  # noqa: D102

    def prepare(self, execution: Execution) -> None: ...  # noqa: D102


Load = Callable[[Path], ServedScorer]
"""Turns the model's folder into a scorer; runs in a thread, and once more in every worker process."""

Launch = Callable[[Load, Path, ServedScorer], Runner]
"""Starts one of those that run the units that the scorer plans."""


def load_for_verdicts(folder: Path) -> CascadeScorer:
    """The model with its calibration, and without what that does not see."""
    return CascadeScorer.from_pretrained(folder, complete=False)


def load_prepared(load: Load, execution: Execution, folder: Path) -> ServedScorer:
    """Load where networks are to run: in the worker process alone. The other one keeps them idle, on the CPU."""
    scorer = load(folder)
    scorer.prepare(execution)
    return scorer


def launch_worker(load: Load, folder: Path, scorer: ServedScorer) -> Runner:
    """Run units in a process of their own: this one never runs a network."""
    return Worker(load, folder, scorer.digest)


class ServedModel:
    """Weights and calibration as they were read from one folder, at one time. All methods belong to the event loop.

    Args:
        name: By which requests ask for it.
        scorer: See the attribute.
        detectors: See the attribute.
        runners: See the attribute.
        settings: What the deployment chose.
        observe: See `Observe`.

    Attributes:
        name: By which requests ask for it.
        scorer: Plans and combines where a request names no detector; its networks stay idle.
        detectors: What does where one is named, `scorer` among them.
        runners: Run them.
        batcher: Between these.
        drift: Whether images still look like those of the calibration, by the detector that judges where none is
            named; None without one.
    """

    def __init__(
        self,
        name: str,
        scorer: ServedScorer,
        detectors: Mapping[str, ServedScorer],
        runners: Sequence[Runner],
        settings: Settings,
        observe: Observe,
    ) -> None:
        self.name = name
        self.scorer = scorer
        self.detectors = detectors
        self.runners = Runners(runners)
        self.batcher = Batcher(
            scorer,
            self.runners,
            max_batch=settings.worker_batch,
            max_queue_cost=settings.max_queue_cost,
            batch_limit=settings.batch_timeout_ms / 1000,
            observer=observe(name),
        )
        size = scorer.calibration_size
        self.drift = None if size is None else DriftWindow(size, window=settings.drift_window)
        self._alpha = settings.alpha
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what it scores."""
        taken = self.scorer.preprocessing
        return taken.channels, taken.height, taken.width

    def alpha_of(self, scorer: ServedScorer) -> float | None:
        """Level at which images are flagged: the deployment's, or that of its calibration; None without one."""
        return scorer.alpha if scorer.alpha is None or self._alpha is None else self._alpha

    async def score(
        self, images: NDArray[np.uint8], fidelity: Fidelity, until: float, scorer: ServedScorer
    ) -> list[Score]:
        """As `Batcher.score`, flagged at the deployment's level."""
        scores = await self.batcher.score(images, fidelity, until, scorer)
        alpha = self.alpha_of(scorer)
        return [
            one if alpha is None or one.p_value is None else dataclasses.replace(one, is_ood=one.p_value <= alpha)
            for one in scores
        ]

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """For one request: it stays until that is done."""
        self._requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    async def until_idle(self) -> None:
        """Wait for the requests under way."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Fail what is under way, and end the workers."""
        await self.batcher.stop()
        await self.runners.stop()
