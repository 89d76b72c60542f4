"""The application around a model: sharing, failing, loading, stopping, and what it says of itself."""

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from service_doubles import (
    SETTINGS,
    SteeredScorer,
    check_problem,
    in_thread,
    score,
    serving,
    tiny_cascade,
    tiny_scorer,
    until,
    until_ready,
)

from pcdm_core.data import Preprocessing
from pcdm_core.model import save_pretrained
from pcdm_core.scoring import CascadeScorer, Fidelity, FidelityName
from service import Settings, create_app

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

NATIVE = encode(photo(8, 8))


class SteeredModel(SteeredScorer):
    """A steered scorer with what the application asks of a model."""

    model_name = "steered"
    digest = "0"
    alpha = None
    fidelities: Mapping[FidelityName, Fidelity] = MappingProxyType({"fast": Fidelity(nodes=1)})
    preprocessing = Preprocessing(channels=1, height=1, width=2)


def steered(value: int) -> bytes:
    return encode(Image.fromarray(np.array([[value, 0]], dtype=np.uint8)))


async def test_the_level_of_the_deployment_decides() -> None:
    scorer = CascadeScorer(tiny_cascade(), model_name="tiny", digest="0123")
    plain = scorer.likelihood

    def calibrated(parts: Any) -> Any:
        one = plain(parts)
        return type(one)(**{**vars(one), "score": 1.0, "p_value": 0.2, "is_ood": False})

    scorer.likelihood = calibrated  # type: ignore[method-assign]
    for alpha, flagged in ((0.1, False), (0.2, True)):
        async with serving(scorer, Settings(alpha=alpha)) as client:
            body = (await score(client, ("a.png", NATIVE))).json()
        assert (body["alpha"], body["results"][0]["is_ood"]) == (alpha, flagged)


async def test_concurrent_requests_share_batches_and_the_server_answers_meanwhile() -> None:
    scorer = SteeredModel()
    async with serving(scorer) as client:
        first = asyncio.create_task(score(client, ("1.png", steered(1))))
        await until(scorer.started.is_set)
        others = [asyncio.create_task(score(client, (f"{n}.png", steered(n)))) for n in (2, 3, 4)]
        assert (await client.get("/healthz")).status_code == 200
        await until(lambda: scorer.planned == 4)
        await asyncio.sleep(0.1)  # from the planning thread to the queue
        assert not any(task.done() for task in (first, *others))
        scorer.gate.set()
        answers = await asyncio.gather(first, *others)
    assert [answer.json()["results"][0]["bits_per_dim"] for answer in answers] == [1, 2, 3, 4]
    assert sorted(map(sorted, scorer.batches)) == [[1], [2, 3, 4]]


async def test_a_failing_model_is_a_500_and_the_next_request_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    scorer = SteeredModel()
    scorer.gate.set()
    async with serving(scorer) as client:
        problem = check_problem(await score(client, ("a.png", steered(255))), 500)
        assert problem["type"].endswith("model-failed")
        assert "on purpose" not in problem["detail"]
        assert (await score(client, ("a.png", steered(1)))).status_code == 200
    assert problem["request_id"] in caplog.text


async def test_an_unexpected_error_is_a_500_with_the_request_id(caplog: pytest.LogCaptureFixture) -> None:
    scorer = SteeredModel()
    scorer.gate.set()
    scorer.combine = lambda units, results: [][0]  # type: ignore[method-assign]  # noqa: ARG005
    async with serving(scorer) as client:
        problem = check_problem(await score(client, ("a.png", steered(1))), 500)
        assert (await client.get("/healthz")).status_code == 200
    assert problem["type"] == "about:blank"
    assert problem["request_id"] in caplog.text


async def test_the_server_is_alive_but_not_ready_until_the_model_is_loaded() -> None:
    gate = threading.Event()

    def load(_: Path) -> Any:
        assert gate.wait(10)
        return tiny_scorer()

    app = create_app(SETTINGS, load=load, launch=in_thread)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        assert (await client.get("/healthz")).status_code == 200
        check_problem(await client.get("/readyz"), 503)
        check_problem(await score(client, ("a.png", NATIVE)), 503)
        gate.set()
        await until_ready(client)
    async with httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        assert "stopping" in check_problem(await client.get("/readyz"), 503)["detail"]


async def test_a_model_folder_is_loaded_from_the_settings(tmp_path: Path) -> None:
    save_pretrained(tiny_cascade(), tmp_path / "toy")
    app = create_app(Settings(model=tmp_path / "toy"))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until_ready(client)
        assert (await score(client, ("a.png", NATIVE))).json()["model"] == "toy"


async def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings(model=tmp_path / "missing"))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until(lambda: "config.json is missing" in caplog.text)
        assert "Traceback" not in caplog.text
        assert "could not be loaded" in check_problem(await client.get("/readyz"), 503)["detail"]
        assert (await client.get("/healthz")).status_code == 200


async def test_the_interface_describes_every_answer() -> None:
    async with serving() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    errors = {"/score": {"400", "413", "415", "422", "500", "503"}, "/readyz": {"503"}, "/healthz": set()}
    assert set(paths) == set(errors)
    for path, statuses in errors.items():
        [operation] = paths[path].values()
        assert set(operation["responses"]) == {"200"} | statuses
        for status in statuses:
            assert set(operation["responses"][status]["content"]) == {"application/problem+json"}
