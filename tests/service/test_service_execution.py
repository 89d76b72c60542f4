"""Where the workers run the networks, and as what."""

import asyncio
import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from model_folders import encode_array, noise_images, save_model
from pydantic import ValidationError
from service_doubles import InThread, SteeredModel, check_problem, until, until_ready, upload
from service_process import COMMAND, ROOT

from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig
from pcdm_core.scoring import CascadeScorer
from service import Settings, create_app
from service.engine import Engine
from service.runner import RefusedError

# Small networks live with the tests of the core; pytest finds only a test's own folder.
sys.path.append(str(ROOT / "tests" / "core" / "scoring"))

from tiny_scorers import OneLayer  # isort: skip

without_cuda = pytest.mark.skipif(torch.cuda.device_count() > 0, reason="there is a CUDA device")


@contextlib.asynccontextmanager
async def running(settings: Settings, **parts: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Engine]]:
    app = create_app(settings, **parts)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        yield client, app.state.engine


def test_a_name_of_no_device_is_refused_at_once() -> None:
    with pytest.raises(ValidationError, match="'gpu' is no device: expected auto, cpu, cuda or cuda:N"):
        Settings(device="gpu")


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDM_DEVICE", "cuda:1")
    monkeypatch.setenv("PCDM_COMPILE", "true")
    execution = Settings(max_batch=48).execution
    assert (execution.device, execution.compiled, execution.largest_batch) == ("cuda:1", True, 48)


def test_by_default_the_device_is_chosen_and_nothing_is_compiled() -> None:
    assert (Settings().execution.device, Settings().execution.compiled) == ("auto", False)


@without_cuda
async def test_auto_runs_on_the_processor_and_the_model_and_the_metrics_say_so(tmp_path: Path) -> None:
    save_model(tmp_path / "toy", 1)
    async with running(Settings(model=tmp_path / "toy")) as (client, _):
        await until_ready(client)
        assert (await client.get("/models/toy")).json()["device"] == "cpu"
        (info,) = [line for line in (await client.get("/metrics")).text.splitlines() if "pcdm_model_info{" in line]
    assert 'device="cpu"' in info


@without_cuda
async def test_a_device_that_is_not_there_fails_the_model_and_nothing_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_model(tmp_path / "toy", 1)
    async with running(Settings(model=tmp_path / "toy", device="cuda:1")) as (client, engine):
        async with asyncio.timeout(60):
            await until(lambda: engine.hosts["toy"].state == "failed")
        told = (await client.get("/models/toy")).json()
        check_problem(await client.get("/readyz"), 503)
        assert isinstance(engine.failure, RefusedError)
    assert told["reason"].startswith("the model could not be loaded: the device cuda:1 is not there: there is cpu")
    assert told["device"] is None
    assert "Traceback" not in caplog.text


@without_cuda
def test_the_command_ends_with_the_reason(tmp_path: Path) -> None:
    save_model(tmp_path / "toy", 1)
    words = [*COMMAND, "--model", str(tmp_path / "toy"), "--device", "cuda"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("error: the device cuda is not there: there is cpu")


def load_one_layer(folder: Path) -> CascadeScorer:
    if multiprocessing.parent_process() is not None:  # in a worker
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "cache")
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    cascade = Cascade(CascadeConfig(image_shape=(3, 8, 8), transform="identity", networks=(network,)))
    torch.manual_seed(0)
    cascade.predictors[0] = OneLayer()
    return CascadeScorer(cascade, model_name="layer", digest="0")


def machine_code(folder: Path) -> set[Path]:
    return set(folder.rglob("*.so"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++, which torch.compile needs, is not installed")
async def test_a_worker_compiles_before_it_is_up_and_answers_as_an_eager_one(tmp_path: Path) -> None:
    settings = Settings(model=tmp_path, device="cpu", compile=True, max_batch=4)
    images = noise_images(3)
    async with running(settings, load=load_one_layer) as (client, _):
        async with asyncio.timeout(300):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - as any client has to
                await asyncio.sleep(0.1)
        compiled = machine_code(tmp_path)
        files = upload(*((f"{index}.png", encode_array(image)) for index, image in enumerate(images)))
        results = (await client.post("/score", files=files)).json()["results"]
        assert compiled == machine_code(tmp_path) != set()
    expected = [one.bits_per_dim for one in load_one_layer(tmp_path).score(images)]
    assert [one["bits_per_dim"] for one in results] == pytest.approx(expected, abs=1e-6)


async def test_without_a_compiler_a_model_that_is_to_be_compiled_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not in a worker: the process that those are forked from has had its environment since its start, long ago.
    save_model(tmp_path / "toy", 1)
    monkeypatch.setenv("CXX", "no-such-compiler")
    settings = Settings(model=tmp_path / "toy", device="cpu", compile=True)

    def launch(load: Any, folder: Path, _: Any) -> Any:
        return Prepared(load, folder)

    async with running(settings, launch=launch) as (_, engine):
        await until(lambda: engine.hosts["toy"].state == "failed")
        assert "there is no C++ compiler no-such-compiler" in str(engine.failure)


class Prepared(InThread):
    """A runner whose first start loads as a worker does, in this process."""

    def __init__(self, load: Any, folder: Path) -> None:
        super().__init__(lambda _: [])
        self.fall()
        self._start = lambda: load(folder)

    async def until_up(self) -> None:
        try:
            await asyncio.to_thread(self._start)
        except ValueError as error:
            raise RefusedError(str(error)) from error


async def test_a_reload_that_is_refused_is_no_fault_of_the_folder() -> None:
    class Refused(InThread):
        async def until_started(self) -> None:
            raise RefusedError("there is no such device")

    runners = iter([InThread, Refused])

    def launch(_load: Any, _folder: Path, scorer: Any) -> Any:
        return next(runners)(scorer.run)

    settings = Settings(models="steered=somewhere", allow_reload=True)
    async with running(settings, load=lambda _: SteeredModel(), launch=launch) as (client, engine):
        await until_ready(client)
        problem = check_problem(await client.post("/models/steered/reload"), 500)
        assert problem["detail"] == "there is no such device; the model that was there stays"
        assert engine.hosts["steered"].state == "ready"
