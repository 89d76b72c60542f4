"""A model that gives way to what its folder holds later."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from model_folders import encode_array, noise_images, save_model
from service_doubles import (
    InThread,
    SteeredModel,
    check_problem,
    in_thread,
    score,
    steered,
    until,
    until_ready,
)
from service_process import is_running, server, wait

from pcdm_core.scoring import CascadeScorer, Unit, UnitResult
from service import Settings, create_app
from service.engine import Engine
from service.logs import current_request
from service.runner import WorkerDiedError

ALLOWED = Settings(models="steered=somewhere", allow_reload=True)


class Release(SteeredModel):
    """What the folder held at one time."""

    def __init__(self, digest: str, *, held: bool = False) -> None:
        super().__init__()
        self.digest = digest
        if not held:
            self.gate.set()


class Shelf:
    """Where models come from: the next one of a list at each load, or the exception that stands for it."""

    def __init__(self, *releases: Release | Exception) -> None:
        self.releases = list(releases)
        self.gate = threading.Event()
        self.gate.set()
        self.loads = 0
        self.runners: list[InThread] = []

    def load(self, _: Path) -> Any:
        self.loads += 1
        assert self.gate.wait(10)
        release = self.releases.pop(0)
        if isinstance(release, Exception):
            raise release
        return release

    def launch(self, *arguments: Any) -> Any:
        runner: Any = in_thread(*arguments)
        self.runners.append(runner)
        return runner


@contextlib.asynccontextmanager
async def stocked(shelf: Shelf, settings: Settings = ALLOWED) -> AsyncIterator[tuple[httpx.AsyncClient, Engine]]:
    app = create_app(settings, load=shelf.load, launch=shelf.launch)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until(lambda: app.state.engine.hosts["steered"].state in ("ready", "failed"))
        yield client, app.state.engine


async def reload(client: httpx.AsyncClient, name: str = "steered") -> httpx.Response:
    return await client.post(f"/models/{name}/reload")


async def test_a_reload_serves_the_new_model_and_ends_the_old_worker() -> None:
    shelf = Shelf(Release("old"), Release("new"))
    async with stocked(shelf) as (client, _):
        assert (await score(client, ("a.png", steered(1)))).json()["digest"] == "old"
        told = await reload(client)
        assert (told.status_code, told.json()["digest"], told.json()["state"]) == (200, "new", "ready")
        assert (await score(client, ("a.png", steered(1)))).json()["digest"] == "new"
        await until(lambda: not shelf.runners[0].up)
        assert shelf.runners[1].up


async def test_the_new_model_does_not_work_under_the_name_of_the_request_that_asked_for_it() -> None:
    class Noting(Release):
        def run(self, units: Sequence[Unit]) -> list[UnitResult]:
            seen.append(current_request.get(None))
            return super().run(units)

    seen: list[Any] = []
    async with stocked(Shelf(Release("old"), Noting("new"))) as (client, _):
        assert (await reload(client)).status_code == 200
        assert (await score(client, ("a.png", steered(1)))).status_code == 200
    assert seen == [None]


async def test_requests_under_way_are_finished_by_the_model_with_which_they_began() -> None:
    old, new = Release("old", held=True), Release("new")
    shelf = Shelf(old, new)
    async with stocked(shelf) as (client, _):
        began = asyncio.create_task(score(client, ("a.png", steered(1)), ("b.png", steered(2))))
        await until(old.started.is_set)
        assert (await reload(client)).status_code == 200
        assert (await score(client, ("c.png", steered(3)))).json()["digest"] == "new"
        assert shelf.runners[0].up
        old.gate.set()
        assert (await began).json()["digest"] == "old"
        await until(lambda: not shelf.runners[0].up)
    assert (old.batches, new.batches) == ([[1, 2]], [[3]])


async def test_a_drain_waits_for_the_requests_of_a_model_that_was_replaced() -> None:
    old = Release("old", held=True)
    async with stocked(Shelf(old, Release("new"))) as (client, engine):
        began = asyncio.create_task(score(client, ("a.png", steered(1))))
        await until(old.started.is_set)
        await reload(client)
        draining = asyncio.create_task(engine.drain())
        await asyncio.sleep(0.05)
        assert not draining.done()
        check_problem(await reload(client), 503)
        old.gate.set()
        assert (await began).status_code == 200
        await draining


@pytest.mark.parametrize(
    ("failure", "status", "told"),
    [
        (ValueError("the weights are torn"), 422, "the weights are torn; the model that was there stays"),
        (KeyError("secret"), 500, "an unexpected error, which the log has; the model that was there stays"),
    ],
)
async def test_a_model_that_cannot_be_loaded_leaves_the_old_one(failure: Exception, status: int, told: str) -> None:
    shelf = Shelf(Release("old"), failure, Release("new"))
    async with stocked(shelf) as (client, _):
        problem = check_problem(await reload(client), status)
        assert (problem["type"], problem["detail"]) == ("urn:problem-type:pcdm:reload-failed", told)
        assert (await score(client, ("a.png", steered(1)))).json()["digest"] == "old"
        assert (await reload(client)).json()["digest"] == "new"


async def test_a_worker_that_does_not_start_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(Release("old"), Release("new"))
    async with stocked(shelf) as (client, _):

        async def die(_: Any) -> None:
            raise WorkerDiedError("the worker cannot load the model: Traceback\n  deep inside\nMemoryError: too large")

        monkeypatch.setattr(InThread, "until_started", die)
        problem = check_problem(await reload(client), 500)
        assert problem["detail"] == "MemoryError: too large; the model that was there stays"
        assert not shelf.runners[1].up
        assert (await score(client, ("a.png", steered(1)))).json()["digest"] == "old"


async def test_a_model_that_had_failed_is_there_after_a_reload() -> None:
    async with stocked(Shelf(ValueError("nothing yet"), Release("new"))) as (client, engine):
        assert isinstance(engine.failure, ValueError)
        assert (await reload(client)).status_code == 200
        assert engine.failure is None
        assert (await score(client, ("a.png", steered(1)))).json()["digest"] == "new"


async def test_a_second_reload_meanwhile_is_refused() -> None:
    shelf = Shelf(Release("old"), Release("new"))
    async with stocked(shelf) as (client, _):
        shelf.gate.clear()
        first = asyncio.create_task(reload(client))
        await until(lambda: shelf.loads == 2)
        assert check_problem(await reload(client), 409)["type"].endswith("reload-under-way")
        assert (await score(client, ("a.png", steered(1)))).json()["digest"] == "old"
        shelf.gate.set()
        assert (await first).status_code == 200
    assert shelf.loads == 2


async def test_a_reload_goes_on_when_its_client_goes_away() -> None:
    shelf = Shelf(Release("old"), Release("new"))
    async with stocked(shelf) as (client, engine):
        shelf.gate.clear()
        asked = asyncio.create_task(reload(client))
        await until(lambda: shelf.loads == 2)
        asked.cancel()
        shelf.gate.set()
        await until(lambda: engine.ready().scorer.digest == "new")


async def test_a_server_that_stops_gives_up_a_reload() -> None:
    shelf = Shelf(Release("old"), Release("new"))
    async with stocked(shelf) as (client, engine):
        shelf.gate.clear()
        asked = asyncio.create_task(reload(client))
        await until(lambda: shelf.loads == 2)
        await engine.drain()
        assert check_problem(await asked, 503)["type"].endswith("stopping")
        shelf.gate.set()
    assert len(shelf.runners) == 1


async def test_what_is_served_stays_with_the_folder_to_which_a_link_led(tmp_path: Path) -> None:
    first, second = save_model(tmp_path / "1", 1), save_model(tmp_path / "2", 2)
    link = tmp_path / "current"
    link.symlink_to("1")
    folders: list[Path] = []

    def launch(load: Any, folder: Path, scorer: Any) -> Any:
        folders.append(folder)
        return in_thread(load, folder, scorer)

    app = create_app(Settings(model=link, allow_reload=True), load=CascadeScorer.from_pretrained, launch=launch)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until_ready(client)
        assert (await client.get("/models/current")).json()["digest"] == first.digest
        link.unlink()
        link.symlink_to("2")
        assert (await reload(client, "current")).json()["digest"] == second.digest
    assert folders == [(tmp_path / "1").resolve(), (tmp_path / "2").resolve()]


async def test_reloading_is_disabled_unless_it_is_allowed() -> None:
    shelf = Shelf(Release("old"))
    async with stocked(shelf, Settings(models="steered=somewhere")) as (client, _):
        problem = check_problem(await reload(client), 403)
    assert problem["type"].endswith("reload-disabled")
    assert "PCDM_ALLOW_RELOAD=true" in problem["detail"]
    assert shelf.loads == 1


async def test_the_signal_reloads_every_model(caplog: pytest.LogCaptureFixture) -> None:
    releases: dict[str, list[Release | Exception]] = {
        "one": [Release("1"), Release("2")],
        "two": [Release("1"), ValueError("torn")],
    }

    def load(folder: Path) -> Any:
        release = releases[folder.name].pop(0)
        if isinstance(release, Exception):
            raise release
        return release

    app = create_app(Settings(models="one,two", allow_reload=True), load=load, launch=in_thread)
    before = signal.getsignal(signal.SIGHUP)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until_ready(client)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "two is not reloaded: torn; the model that was there stays" in caplog.text)
        digests = [one["digest"] for one in (await client.get("/models")).json()["models"]]
        assert digests == ["2", "1"]
    assert signal.getsignal(signal.SIGHUP) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks processes up in /proc")
async def test_a_real_server_swaps_weights_and_calibration_under_load(tmp_path: Path) -> None:
    folder, other = tmp_path / "toy", tmp_path / "plain"
    old = save_model(folder, 1, alpha=0.05)
    calm = save_model(other, 3)
    new = save_model(tmp_path / "next", 2, alpha=0.25)
    [expected_old], [expected_new] = old.score(noise_images(1)), new.score(noise_images(1))
    expected = {old.digest: (0.05, expected_old), new.digest: (0.25, expected_new)}
    image = encode_array(noise_images(1)[0])
    answers: list[str] = []
    with server(folder, models=f"{folder},{other}", allow_reload="true") as running:
        async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=60) as client:
            ending = False

            async def ask() -> None:
                while not ending:
                    answer = await score(client, ("a.png", image))
                    assert answer.status_code == 200, answer.text
                    body = answer.json()
                    alpha, one = expected[body["digest"]]
                    [found] = body["results"]
                    assert body["alpha"] == alpha
                    assert found["bits_per_dim"] == pytest.approx(one.bits_per_dim, abs=1e-4)
                    assert found["p_value"] == pytest.approx(one.p_value, abs=1e-9)
                    answers.append(body["digest"])

            asking = [asyncio.create_task(ask()) for _ in range(3)]
            await until(lambda: len(answers) > 5)
            workers = running.workers
            for file in (tmp_path / "next").iterdir():
                shutil.copy(file, folder / file.name)
            told = await client.post("/models/toy/reload")
            assert (told.status_code, told.json().get("digest")) == (200, new.digest), told.text
            count = len(answers)
            await until(lambda: len(answers) > count + 5)
            ending = True
            await asyncio.gather(*asking)
            assert answers[0] == old.digest
            assert set(answers[count + 3 :]) == {new.digest}
            await until(lambda: sum(map(is_running, workers)) == 1)  # that of the other model

            (folder / "model.safetensors").write_bytes(b"torn")
            problem = check_problem(await client.post("/models/toy/reload"), 422)
            assert "model.safetensors" in problem["detail"]
            assert (await score(client, ("a.png", image))).json()["digest"] == new.digest

            save_model(other, 4)
            running.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(60):
                while (await client.get("/models/plain")).json()["digest"] == calm.digest:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert (await client.get("/models/toy")).json()["digest"] == new.digest
        last = running.workers
    wait(lambda: not any(map(is_running, last)), 10)
