"""The application around a model: sharing, failing, loading, stopping, and what it says of itself."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from model_folders import save_model
from service_doubles import (
    SETTINGS,
    FragileScorer,
    SteeredModel,
    check_problem,
    in_thread,
    score,
    serving,
    steered,
    tiny_cascade,
    tiny_scorer,
    until,
    until_ready,
    upload,
)

from pcdm_core.model import save_pretrained
from service import Settings, create_app

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

NATIVE = encode(photo(8, 8))


def client_backlog(client: httpx.AsyncClient) -> float:
    transport: Any = client._transport
    backlog: float = transport.app.state.engine.ready().batcher.backlog
    return backlog


async def test_the_level_of_the_deployment_decides(tmp_path: Path) -> None:
    scorer = save_model(tmp_path / "sure", 1, alpha=0.5)
    p_value = scorer.score(np.asarray(photo(8, 8)).transpose(2, 0, 1)[None])[0].p_value
    assert p_value is not None
    for alpha, flagged in ((0.5 * p_value, False), (p_value, True)):
        async with serving(scorer, Settings(alpha=alpha)) as client:
            body = (await score(client, ("a.png", NATIVE))).json()
        assert body["results"][0]["p_value"] == p_value
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


async def test_an_image_that_kills_the_worker_twice_is_a_500_and_the_next_request_is_answered() -> None:
    scorer = SteeredModel()
    scorer.gate.set()
    async with serving(scorer) as client:
        problem = check_problem(await score(client, ("a.png", steered(254))), 500)
        assert (await score(client, ("a.png", steered(1)))).status_code == 200
    assert problem["type"].endswith("worker-died")
    assert scorer.batches == [[254], [254], [1]]


async def test_only_the_image_at_which_a_real_worker_hangs_is_a_500(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_pretrained(tiny_cascade(), tmp_path / "toy")
    hanging = photo(8, 8)
    hanging.putpixel((0, 0), (253, 0, 0))
    # As long as a healthy batch may take on a slow machine: it is waited for in full, twice.
    settings = Settings(model=tmp_path / "toy", batch_timeout_ms=1500)
    app = create_app(settings, load=FragileScorer.from_pretrained)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://s") as client:
        await until_ready(client)
        asked = [score(client, ("a.png", data)) for data in (NATIVE, encode(hanging))]
        fine, lost = await asyncio.gather(*asked)
        assert fine.status_code == 200, fine.text
        assert check_problem(lost, 500)["type"].endswith("worker-died")
    assert caplog.text.count("took longer than 1.5 s to run a batch, and was killed") == 2


async def test_overload_is_a_429_that_says_when_to_come_again() -> None:
    scorer = SteeredModel()
    async with serving(scorer, Settings(max_queue_cost=2)) as client:
        held = [asyncio.create_task(score(client, ("a.png", steered(value)))) for value in (1, 2)]
        await until(lambda: client_backlog(client) == 2)
        refused = await score(client, ("b.png", steered(3)))
        scorer.gate.set()
        await asyncio.gather(*held)
        assert (await score(client, ("b.png", steered(3)))).status_code == 200
    assert check_problem(refused, 429)["type"].endswith("overloaded")
    assert int(refused.headers["retry-after"]) >= 1


async def test_under_overload_a_form_is_not_read_but_what_is_asked_for_is() -> None:
    scorer = SteeredModel()
    content, kind = b"no form", {"Content-Type": "multipart/form-data; boundary=b"}
    async with serving(scorer, Settings(max_queue_cost=1)) as client:
        assert (await client.post("/score", content=content, headers=kind)).status_code == 400
        held = asyncio.create_task(score(client, ("a.png", steered(1))))
        await until(lambda: client_backlog(client) == 1)
        for query, header, status in (
            ("", "1000", 429),
            ("?fidelity=fast", "1000", 429),
            ("?fidelity=best", "1000", 400),
            ("?model=other", "1000", 400),
            ("", "0", 400),
            ("", "soon", 400),
        ):
            headers = kind | {"X-Request-Timeout-Ms": header}
            answer = await client.post(f"/score{query}", content=content, headers=headers)
            assert answer.status_code == status, (query, header)
        scorer.gate.set()
        assert (await held).status_code == 200


async def test_a_request_that_would_be_late_is_a_429_at_once() -> None:
    scorer = SteeredModel()
    late = {"X-Request-Timeout-Ms": "10"}
    async with serving(scorer, Settings(max_batch=1)) as client:
        for value in (1, 2):
            scorer.gate.clear()
            held = [asyncio.create_task(score(client, ("a.png", steered(value))))]
            await until(lambda: client_backlog(client) == 1)
            if value == 2:  # while it is known that the first took a while
                refused = await client.post("/score", files=upload(("b.png", steered(3))), headers=late)
            await asyncio.sleep(0.1)
            scorer.gate.set()
            await asyncio.gather(*held)
    assert check_problem(refused, 429)["type"].endswith("overloaded")
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize(("asked", "most"), [("50", 60_000), ("60000", 50), (None, 50)])
async def test_past_its_deadline_a_request_is_a_504_and_leaves_the_queue(asked: str | None, most: int) -> None:
    scorer = SteeredModel()
    settings = Settings(request_timeout_ms=most, max_batch=1)
    headers = {} if asked is None else {"X-Request-Timeout-Ms": asked}
    async with serving(scorer, settings) as client:
        late = await client.post("/score", files=upload(*[("a.png", steered(1))] * 3), headers=headers)
        assert client_backlog(client) == 0
        scorer.gate.set()
        await score(client, ("b.png", steered(2)))
    assert check_problem(late, 504)["type"].endswith("deadline-passed")
    assert scorer.batches == [[1], [2]]


async def test_a_deadline_that_is_no_time_is_refused() -> None:
    async with serving() as client:
        headers = {"X-Request-Timeout-Ms": "0"}
        answer = await client.post("/score", files=upload(("a.png", NATIVE)), headers=headers)
    assert check_problem(answer, 422)["errors"][0]["location"] == "header.x-request-timeout-ms"


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
        early = await client.get("/readyz")
        assert (check_problem(early, 503)["detail"], early.headers["retry-after"]) == ("the model is being loaded", "1")
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
    work = {"400", "401", "404", "408", "413", "415", "422", "429", "500", "503", "504"}
    errors = {
        "/healthz": set(),
        "/readyz": {"503"},
        "/metrics": set(),
        "/score": work,
        "/models": set(),
        "/models/{name}": {"404"},
        "/models/{name}/reload": {"403", "404", "409", "422", "500", "503"},
        "/v2": set(),
        "/v2/health/live": set(),
        "/v2/health/ready": {"503"},
        "/v2/models/{name}": {"404", "503"},
        "/v2/models/{name}/ready": {"404", "503"},
        "/v2/models/{name}/infer": work,
    }
    assert set(paths) == set(errors)
    for path, statuses in errors.items():
        [operation] = paths[path].values()
        assert set(operation["responses"]) == {"200"} | statuses
        for status in statuses:
            assert set(operation["responses"][status]["content"]) == {"application/problem+json"}
