"""The asynchronous client and the real application."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import client_doubles  # noqa: F401 - makes the service's own doubles importable
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from pcdm_client import (
    AsyncClient,
    ConnectionFailedError,
    DeadlinePassedError,
    ImageRefusedError,
    InvalidRequestError,
    NotReadyError,
    OverloadedError,
    RetryPolicy,
    ServiceFailedError,
)
from service import Settings, create_app

# isort: split
from service_doubles import (
    SETTINGS,
    SteeredModel,
    images_of,
    in_thread,
    score,
    serving,
    steered,
    tiny_scorer,
    until,
)

from hostile_images import encode, photo  # isort: skip  # found through service_doubles

NATIVE = encode(photo(8, 8))


def client_of(app: ASGIApp, **arguments: Any) -> AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return AsyncClient("http://s", transport=transport, **arguments)


@contextlib.asynccontextmanager
async def asking(
    scorer: Any,
    settings: Settings = SETTINGS,
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    **arguments: Any,
) -> AsyncIterator[tuple[AsyncClient, Any]]:
    """A client of a started application whose model is loaded, and the application's engine."""
    app = create_app(settings, load=lambda _: scorer, launch=in_thread)
    async with app.router.lifespan_context(app), client_of(around(app), **arguments) as client:
        async with asyncio.timeout(60):
            while not await client.ready():  # noqa: ASYNC110 - as any client has to
                await asyncio.sleep(0.002)
        yield client, app.state.engine


def free(scorer: SteeredModel) -> SteeredModel:
    scorer.gate.set()
    return scorer


async def test_no_field_of_the_real_answer_is_lost() -> None:
    sent: list[bytes] = []

    def listening(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_noting(message: Any) -> None:
                sent.append(message.get("body", b""))
                await send(message)

            await app(scope, receive, send_noting)

        return wrapped

    async with asking(tiny_scorer(), around=listening) as (client, _):
        sent.clear()
        answer = await client.score([NATIVE, photo(24, 36)], fidelity="exact")
    assert answer.model_dump(mode="json") == json.loads(b"".join(sent))
    assert (answer.fidelity.name, answer.results[1].original_size) == ("exact", (36, 24))


async def test_the_client_gets_what_anybody_gets() -> None:
    async with serving() as anybody:
        plain = (await score(anybody, ("a.png", NATIVE))).json()
    async with asking(tiny_scorer()) as (client, _):
        [one] = (await client.score(NATIVE)).results
    assert one.model_dump(mode="json") == plain["results"][0] | {"source": "images[0]"}


async def test_options_and_headers_reach_the_service() -> None:
    seen: list[Scope] = []

    def noting(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)
            await app(scope, receive, send)

        return wrapped

    async with asking(tiny_scorer(), around=noting, api_key="secret") as (client, _):
        answer = await client.score(NATIVE, strict=True, fidelity="balanced", model="cifar10-haar", timeout=7)
    headers = dict(seen[-1]["headers"])
    assert seen[-1]["query_string"] == b"fidelity=balanced&strict=true&model=cifar10-haar"
    assert headers[b"authorization"] == b"Bearer secret"
    assert 1 <= int(headers[b"x-request-timeout-ms"]) <= 7000
    assert headers[b"x-request-id"].decode() == answer.request_id


# Errors and repetitions


async def test_a_broken_image_is_named_and_asked_about_once() -> None:
    async with asking(tiny_scorer(), sleep=unexpected) as (client, _):
        with pytest.raises(ImageRefusedError) as caught:
            await client.score([NATIVE, NATIVE[:-40]])
        with pytest.raises(ImageRefusedError, match="8 x 8"):
            await client.score(photo(9, 9), strict=True)
        with pytest.raises(InvalidRequestError, match="'fast', 'balanced' or 'exact'"):
            await client.score(NATIVE, fidelity="best")
        with pytest.raises(InvalidRequestError, match="not calibrated with the detector forest"):
            await client.score(NATIVE, detector="forest")
    assert (caught.value.source, caught.value.reason, caught.value.status) == ("images[1]", "truncated", 422)


async def unexpected(_: float) -> None:
    raise AssertionError("the client waits to ask again")


async def test_a_failing_model_is_not_asked_again() -> None:
    async with asking(free(SteeredModel()), sleep=unexpected) as (client, _):
        with pytest.raises(ServiceFailedError, match="the model failed"):
            await client.score(steered(255))
        assert (await client.score(steered(1))).results[0].bits_per_dim == 1


async def test_an_overloaded_service_is_asked_again_when_it_said() -> None:
    scorer = SteeredModel()
    slept: list[float] = []
    held: list[asyncio.Task[Any]] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        scorer.gate.set()
        await asyncio.gather(*held)

    async with asking(scorer, Settings(max_queue_cost=2), sleep=sleep, draw=lambda: 0.0) as (client, engine):
        held += [asyncio.create_task(client.score(steered(value))) for value in (1, 2)]
        await until(lambda: engine.ready().batcher.backlog == 2)
        answer = await client.score(steered(3))
    assert answer.results[0].bits_per_dim == 3
    assert len(slept) == 1
    assert slept[0] >= 1


async def test_an_overload_that_outlasts_the_deadline_is_told_at_once() -> None:
    scorer = SteeredModel()
    far = RetryPolicy(first=1000, longest=1000)
    settings = Settings(max_queue_cost=2)
    async with asking(scorer, settings, sleep=unexpected, retries=far, draw=lambda: 0.9) as (client, engine):
        held = [asyncio.create_task(client.score(steered(value))) for value in (1, 2)]
        await until(lambda: engine.ready().batcher.backlog == 2)
        with pytest.raises(OverloadedError) as caught:
            await client.score(steered(3))
        scorer.gate.set()
        await asyncio.gather(*held)
    assert caught.value.retry_after == 1


async def test_a_service_that_loads_its_model_is_asked_again() -> None:
    gate = threading.Event()
    slept: list[float] = []

    def load(_: Path) -> Any:
        assert gate.wait(60)
        return tiny_scorer()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        gate.set()
        await until_ready(client)

    app = create_app(SETTINGS, load=load, launch=in_thread)
    async with app.router.lifespan_context(app), client_of(app, sleep=sleep) as client:
        assert (await client.healthy(), await client.ready()) == (True, False)
        async with client_of(app, retries=RetryPolicy(most=0)) as impatient:
            with pytest.raises(NotReadyError, match="being loaded"):
                await impatient.score(NATIVE)
        assert (await client.score(NATIVE)).model == "cifar10-haar"
        assert len(slept) == 1
        assert slept[0] >= 1
    async with client_of(app) as client:
        assert (await client.healthy(), await client.ready()) == (True, False)


async def until_ready(client: AsyncClient) -> None:
    async with asyncio.timeout(60):
        while not await client.ready():  # noqa: ASYNC110 - as any client has to
            await asyncio.sleep(0.002)


async def test_past_the_deadline_the_work_is_dropped() -> None:
    scorer = SteeredModel()
    async with asking(scorer, Settings(max_batch=1)) as (client, engine):
        with pytest.raises(DeadlinePassedError) as caught:
            await client.score([steered(1)] * 3, timeout=0.3)
        await until(lambda: engine.ready().batcher.backlog == 0)
        scorer.gate.set()
        await client.score(steered(2))
    assert (caught.value.status, caught.value.type) == (504, "urn:problem-type:pcdm:deadline-passed")
    assert scorer.batches in ([[1], [2]], [[2]])  # the first, too, if the machine was slow


async def test_the_services_own_deadline_is_told() -> None:
    scorer = SteeredModel()
    async with asking(scorer, Settings(request_timeout_ms=50), sleep=unexpected) as (client, _):
        with pytest.raises(DeadlinePassedError, match="not answered after 50 ms"):
            await client.score(steered(1))
        scorer.gate.set()


async def test_a_service_that_is_not_there_is_told_with_its_cause() -> None:
    transport = httpx.AsyncHTTPTransport()
    async with AsyncClient(
        "http://127.0.0.1:9", transport=transport, retries=RetryPolicy(most=1, first=0.01)
    ) as client:
        with pytest.raises(ConnectionFailedError, match="ConnectError") as caught:
            await client.score(NATIVE)
        assert isinstance(caught.value.__cause__, httpx.ConnectError)
        assert (await client.healthy(), await client.ready()) == (False, False)


# Many images


@pytest.mark.parametrize(("batch_size", "concurrency"), [(1, 1), (1, 4), (4, 2), (64, 4)])
async def test_many_images_are_scored_in_order(batch_size: int, concurrency: int) -> None:
    images = (steered(value) for value in range(1, 12))
    async with asking(free(SteeredModel()), Settings(max_images=3)) as (client, _):
        found = [one async for one in client.score_many(images, batch_size=batch_size, concurrency=concurrency)]
    assert [one.bits_per_dim for one in found] == [*range(1, 12)]
    assert [one.source for one in found] == [f"images[{place}]" for place in range(11)]


async def test_an_answer_that_comes_early_waits_for_its_turn() -> None:
    others = asyncio.Event()
    answered = 0

    def first_comes_last(app: ASGIApp) -> ASGIApp:
        waiting = iter([True])

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal answered
            if scope["path"] != "/score":
                await app(scope, receive, send)
                return
            if next(waiting, False):
                await others.wait()
            await app(scope, receive, send)
            answered += 1
            if answered == 2:
                others.set()

        return wrapped

    async with asking(free(SteeredModel()), around=first_comes_last) as (client, _):
        images = [steered(value) for value in (1, 2, 3)]
        found = [one.bits_per_dim async for one in client.score_many(images, batch_size=1, concurrency=3)]
    assert found == [1, 2, 3]


async def test_no_more_requests_are_under_way_than_allowed() -> None:
    scorer = SteeredModel()
    taken: list[int] = []

    def images() -> Iterator[bytes]:
        for value in range(1, 8):
            taken.append(value)
            yield steered(value)

    async def collect(client: AsyncClient) -> list[float]:
        return [one.bits_per_dim async for one in client.score_many(images(), batch_size=1, concurrency=3)]

    async with asking(scorer) as (client, engine):
        collecting = asyncio.create_task(collect(client))
        await until(lambda: engine.ready().batcher.backlog == 3)
        await asyncio.sleep(0.1)  # a fourth would be there by now
        assert (engine.ready().batcher.backlog, taken) == (3, [1, 2, 3])
        scorer.gate.set()
        assert await collecting == [*range(1, 8)]


async def test_who_stops_early_leaves_no_work_behind() -> None:
    scorer = free(SteeredModel())
    async with asking(scorer) as (client, engine):
        images = [steered(value) for value in range(1, 8)]
        async with contextlib.aclosing(client.score_many(images, batch_size=1, concurrency=3)) as scores:
            assert (await anext(scores)).bits_per_dim == 1
            scorer.gate.clear()
        await until(lambda: engine.ready().batcher.backlog == 0)
        scorer.gate.set()


async def test_a_broken_image_among_many_comes_in_its_turn() -> None:
    images = [*(steered(value) for value in (1, 2, 3)), b"broken", steered(4)]
    async with asking(free(SteeredModel())) as (client, _):
        scores = client.score_many(images, batch_size=2, concurrency=3)
        found = [(await anext(scores)).bits_per_dim for _ in range(2)]
        with pytest.raises(ImageRefusedError) as caught:
            await anext(scores)
    assert (found, caught.value.source) == ([1, 2], "images[3]")


async def test_many_arrays_and_files_are_sent_alike(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(steered(5))
    array = images_of(6)[0, 0]
    async with asking(free(SteeredModel())) as (client, _):
        found = [one async for one in client.score_many([tmp_path / "one.png", array])]
    assert [(one.source, one.bits_per_dim) for one in found] == [("one.png", 5), ("images[1]", 6)]


async def test_no_concurrency_is_refused() -> None:
    async with client_of(create_app(SETTINGS)) as client:
        with pytest.raises(ValueError, match="concurrency must be at least 1"):
            await anext(client.score_many([NATIVE], concurrency=0))
