"""What the service's tests share: a small real model, a scorer under the test's control, and a running client."""

import asyncio
import contextlib
import dataclasses
import functools
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.data import Preprocessing
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig
from pcdm_core.scoring import CascadeScorer, Execution, Fidelity, FidelityName, Score, Unit, UnitResult
from service import Settings, create_app
from service.runner import Runner, WorkerDiedError
from service.served_model import ServedScorer

# The builders of hostile images live with the decoder's tests; pytest finds only a test's own folder.
sys.path.append(str(Path(__file__).parents[1] / "core" / "data"))

from hostile_images import encode  # isort: skip

SETTINGS = Settings(max_batch=8)
ONE_CALL = Fidelity(nodes=1)


def tiny_cascade() -> Cascade:
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    return Cascade(CascadeConfig(image_shape=(3, 8, 8), networks=(network, network)))


@functools.cache
def tiny_scorer() -> CascadeScorer:
    return CascadeScorer(tiny_cascade(), model_name="tiny", digest="0123")


class FragileScorer(CascadeScorer):
    """A real scorer whose process is killed by a first pixel of 255, and that fails at one of 0.

    At one of 253 its process hangs, at the finest scale only: every time costs a limit to wait for. At one of 252 its
    memory is too small for that image and others together.
    """

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        pixels = {int(unit.image.flat[0]) for unit in units}
        if 255 in pixels:
            os.kill(os.getpid(), signal.SIGKILL)
        if 252 in pixels and len(pixels) > 1:
            raise MemoryError("no room on purpose")
        if 253 in pixels and units[0].scale == 2:
            threading.Event().wait()
        if 0 in pixels:
            raise FloatingPointError("broken on purpose")
        return super().run(units)


@dataclass(eq=False)
class SteeredScorer:
    """Scores an image by its first pixel, one unit an image, and lets the test hold, watch and break each batch.

    An image's second pixel is its bucket; a first pixel of 255 breaks the batch it is in, one of 254 kills the worker.
    """

    batches: list[list[int]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    started: threading.Event = field(default_factory=threading.Event)
    planned: int = 0

    def plan(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Unit]:
        self.planned += 1
        return [Unit(index, image, 1, 0, 0, settings, 1.0, (int(image.flat[1]),)) for index, image in enumerate(images)]

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        self.batches.append([int(unit.image.flat[0]) for unit in units])
        self.started.set()
        assert self.gate.wait(10)
        if 255 in self.batches[-1]:
            raise FloatingPointError("broken on purpose")
        if 254 in self.batches[-1]:
            raise WorkerDiedError("killed on purpose")
        return [UnitResult(np.array([float(unit.image.flat[0])])) for unit in units]

    def follow(self, unit: Unit, result: UnitResult) -> Unit | None:  # noqa: ARG002 - steered by the image alone
        """A unit goes on for as many steps as the image's third pixel says."""
        steps = int(unit.image.flat[2]) if unit.image.size > 2 else 0
        return dataclasses.replace(unit, node=unit.node + 1) if unit.node < steps else None

    def combine(self, units: Sequence[Unit], results: Sequence[UnitResult]) -> list[Score]:
        values = [float(result.values[0]) for _, result in zip(units, results, strict=True)]
        return [
            Score(
                score=None,
                p_value=None,
                is_ood=None,
                bits_per_dim=value,
                nats=value,
                stderr=None,
                terms={},
                diffusion=None,
                embedded_bits_per_dim=None,
                network_calls=1,
                features=np.zeros(1),
            )
            for value in values
        ]

    def score(self, images: NDArray[np.uint8], settings: Fidelity) -> list[Score]:
        units = self.plan(images, settings)
        return self.combine(units, self.run(units))


class SteeredModel(SteeredScorer):
    """A steered scorer with what the application asks of a model."""

    model_name = "steered"
    digest = "0"
    device = "cpu"
    scales = 1
    parameters = 0
    alpha = None
    detector = None
    calibration_size = None
    detectors: Mapping[str, "SteeredModel"] = MappingProxyType({})
    fidelities: Mapping[FidelityName, Fidelity] = MappingProxyType({"fast": Fidelity(nodes=1)})
    preprocessing = Preprocessing(channels=1, height=1, width=2)

    def prepare(self, execution: Execution) -> None:
        """Nothing to place or compile."""


def steered(value: int) -> bytes:
    return encode(Image.fromarray(np.array([[value, 0]], dtype=np.uint8)))


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class InThread:
    """A runner in a thread of this process, where a test can reach the scorer; dies where it is told to."""

    device = "cpu"
    restarts = 0

    def __init__(self, run: Callable[[Sequence[Unit]], list[UnitResult]]) -> None:
        self._run = run
        self._running = asyncio.Lock()
        self._up = asyncio.Event()
        self.rise()

    @property
    def up(self) -> bool:
        return self._up.is_set()

    def rise(self) -> None:
        self._up.set()

    def fall(self) -> None:
        self._up.clear()

    async def until_up(self) -> None:
        await self._up.wait()

    async def until_started(self) -> None:
        await self.until_up()

    async def run(self, units: Sequence[Unit], *, limit: float | None = None) -> list[UnitResult]:  # noqa: ARG002
        async with self._running:  # which lets those who wait have their turns in order
            return await asyncio.to_thread(self._run, units)

    async def stop(self) -> None:
        self.fall()


class Slow(InThread):
    """A runner whose batches move a clock, by what the test says of a batch of so many units."""

    def __init__(
        self, run: Callable[[Sequence[Unit]], list[UnitResult]], clock: Clock, seconds: Callable[[int], float]
    ) -> None:
        super().__init__(run)
        self._clock = clock
        self._seconds = seconds

    async def run(self, units: Sequence[Unit], *, limit: float | None = None) -> list[UnitResult]:
        results = await super().run(units, limit=limit)
        self._clock.now += self._seconds(len(units))
        return results


def images_of(*values: int, bucket: int = 0) -> NDArray[np.uint8]:
    images = np.zeros((len(values), 1, 1, 2), dtype=np.uint8)
    images[:, 0, 0, 0] = values
    images[:, 0, 0, 1] = bucket
    return images


async def score(client: httpx.AsyncClient, *files: tuple[str, bytes], **query: Any) -> httpx.Response:
    return await client.post("/score", files=upload(*files), params=query)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is awaited is a state of threads, and no event of the loop
            await asyncio.sleep(0.002)


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):  # imports of a first worker, on a busy machine
        while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - as any client has to
            await asyncio.sleep(0.002)


def in_thread(_load: Any, _folder: Path, scorer: ServedScorer) -> Runner:
    return InThread(scorer.run)


@contextlib.asynccontextmanager
async def serving(scorer: Any = None, settings: Settings = SETTINGS) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a started application whose model is loaded."""
    loaded = tiny_scorer() if scorer is None else scorer
    settings = settings.model_copy(update={"models": f"{loaded.model_name}={settings.model}"})
    app = create_app(settings, load=lambda _: loaded, launch=in_thread)
    # A server logs an unexpected exception and goes on; so does this transport.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until_ready(client)
        yield client


def upload(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", file) for file in files]


def check_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= set(problem)
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem
