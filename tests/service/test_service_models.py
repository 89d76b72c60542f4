"""Several models in one server, and what it says of them."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from model_folders import save_model
from service_doubles import (
    SteeredModel,
    check_problem,
    in_thread,
    score,
    steered,
    tiny_scorer,
    until,
    until_ready,
    upload,
)

from service import Settings, create_app

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

NATIVE = encode(photo(8, 8))


def ready_scorer() -> SteeredModel:
    scorer = SteeredModel()
    scorer.gate.set()
    return scorer


@contextlib.asynccontextmanager
async def serving_all(scorers: Mapping[str, Any], **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application with these models, by their names; where one is an exception, loading raises it."""

    def load(folder: Path) -> Any:
        scorer = scorers[folder.name]
        if isinstance(scorer, Exception):
            raise scorer
        return scorer

    app = create_app(Settings(models=",".join(scorers), **settings), load=load, launch=in_thread)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        yield client


async def test_a_request_chooses_its_model_and_the_first_is_the_default() -> None:
    one, two = ready_scorer(), ready_scorer()
    async with serving_all({"one": one, "two": two}) as client:
        await until_ready(client)
        answers = [
            (await client.post(f"/score{query}", files=upload(("a.png", steered(value))))).json()
            for query, value in (("", 1), ("?model=two", 2), ("?model=one", 3))
        ]
    assert [answer["model"] for answer in answers] == ["one", "two", "one"]
    assert (one.batches, two.batches) == ([[1], [3]], [[2]])


async def test_a_busy_model_does_not_keep_another_waiting() -> None:
    held, free = SteeredModel(), ready_scorer()
    async with serving_all({"held": held, "free": free}, max_queue_cost=1) as client:
        await until_ready(client)
        waiting = asyncio.create_task(score(client, ("a.png", steered(1))))
        await until(held.started.is_set)
        check_problem(await score(client, ("a.png", steered(2))), 429)
        assert (await score(client, ("a.png", steered(3)), model="free")).status_code == 200
        held.gate.set()
        assert (await waiting).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/score?model=three"), ("GET", "/models/three"), ("GET", "/v2/models/three/ready")]
)
async def test_an_unknown_model_is_a_404_that_names_those_there_are(method: str, path: str) -> None:
    async with serving_all({"one": ready_scorer(), "two": ready_scorer()}) as client:
        await until_ready(client)
        files = upload(("a.png", steered(1))) if method == "POST" else None
        problem = check_problem(await client.request(method, path, files=files), 404)
    assert problem["type"].endswith("no-such-model")
    assert problem["detail"] == "there is no model three, only one, two"


async def test_a_model_that_cannot_be_loaded_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    scorers = {"good": ready_scorer(), "bad": ValueError("no weights here")}
    async with serving_all(scorers) as client:
        await until(lambda: "cannot load the model in bad: no weights here" in caplog.text)
        assert (await score(client, ("a.png", steered(1)))).status_code == 200
        check_problem(await score(client, ("a.png", steered(1)), model="bad"), 503)
        told = (await client.get("/models/bad")).json()
        assert (told["state"], told["reason"], told["digest"]) == (
            "failed",
            "the model could not be loaded: no weights here",
            None,
        )
        detail = check_problem(await client.get("/readyz"), 503)["detail"]
        assert detail == "bad: the model could not be loaded; the log says why"
        assert (await client.get("/v2/models/good/ready")).status_code == 200


async def test_a_fault_of_ours_is_not_told_to_strangers(caplog: pytest.LogCaptureFixture) -> None:
    async with serving_all({"bad": KeyError("secret")}) as client:
        await until(lambda: "Traceback" in caplog.text)
        assert "secret" not in (await client.get("/models/bad")).text


def test_only_when_no_model_can_be_loaded_has_the_engine_failed() -> None:
    engine = create_app(Settings(models="a,b"), load=lambda _: tiny_scorer(), launch=in_thread).state.engine
    assert engine.failure is None
    engine.hosts["a"].failure = ValueError("a")
    assert engine.failure is None
    engine.hosts["b"].failure = ValueError("b")
    assert str(engine.failure) == "a"


async def test_the_states_of_a_model(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    gate = threading.Event()
    runners: list[Any] = []

    def load(_: Path) -> Any:
        assert gate.wait(10)
        return tiny_scorer()

    def launch(*arguments: Any) -> Any:
        runners.append(in_thread(*arguments))
        return runners[-1]

    app = create_app(Settings(models="tiny=somewhere"), load=load, launch=launch)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:

        async def state() -> tuple[str, str | None]:
            told = (await client.get("/models/tiny")).json()
            return told["state"], told["reason"]

        assert await state() == ("loading", "the model is being loaded")
        gate.set()
        await until_ready(client)
        assert await state() == ("ready", None)
        await until(lambda: "serving tiny" in caplog.text)
        runners[0].fall()
        assert await state() == ("restarting", "the worker that runs the model is being started")
        runners[0].rise()
        assert await state() == ("ready", None)


async def test_a_model_says_what_it_is(tmp_path: Path) -> None:
    plain, calibrated = save_model(tmp_path / "plain", 1), save_model(tmp_path / "sure", 2, alpha=0.1)
    async with serving_all({"plain": plain, "sure": calibrated}, alpha=0.2) as client:
        await until_ready(client)
        told = (await client.get("/models")).json()
        sure = (await client.get("/models/sure")).json()
    assert told["default"] == "plain"
    assert [one["name"] for one in told["models"]] == ["plain", "sure"]
    assert told["models"][1] == sure
    assert (sure["digest"], sure["image_shape"], sure["scales"]) == (calibrated.digest, [3, 8, 8], 2)
    assert sure["parameters"] == sum(one.numel() for one in calibrated.cascade.parameters())
    assert [one["name"] for one in sure["fidelities"]] == ["fast", "balanced", "exact"]
    assert sure["fidelities"][0]["nodes"] == calibrated.fidelity.nodes
    assert sure["detectors"] == [{"name": "spectrum", "alpha": 0.2, "calibration_size": 30, "nodes": 10}]
    assert told["models"][0]["detectors"] == []


def test_names_that_clash_are_told_before_anything_is_served() -> None:
    with pytest.raises(ValueError, match="two models are called toy"):
        create_app(Settings(models="a/toy,b/toy"))
