"""Limits of time and of what is kept in a browser: slow clients, early refusals, headers, the interface's page."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from service_doubles import (
    SteeredModel,
    check_problem,
    in_thread,
    score,
    serving,
    steered,
    until,
    upload,
)
from service_sockets import listening, read_answer, request_of

from service import Settings, create_app
from service.http_protocol import GuardedProtocol
from service.middleware import BodyLimitMiddleware
from service.problems import ProblemError
from service.security_headers import SECURITY_HEADERS

FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def open_model() -> SteeredModel:
    model = SteeredModel()
    model.gate.set()
    return model


async def test_a_limit_beyond_any_image_takes_no_memory() -> None:
    # Above 1 MiB an upload is a file, and so much as one asks for is allocated to read from it.
    image = steered(1) + bytes(2**20)
    async with serving(open_model(), Settings(max_batch=8, max_image_bytes=2**63)) as client:
        answer = await score(client, ("a.png", image))
    assert answer.status_code == 200


# Slow clients


@pytest.mark.parametrize(
    "settings", [Settings(upload_idle_timeout_ms=50), Settings(upload_timeout_ms=50)], ids=["idle", "whole"]
)
async def test_a_body_that_does_not_arrive_is_a_408_and_the_connection_ends(settings: Settings) -> None:
    async with listening(open_model(), settings) as server:
        answer = read_answer(await server.send(request_of(steered(1))[:-20]))
    assert check_problem(answer, 408)["type"].endswith("upload-too-slow")
    assert answer.headers["connection"] == "close"


async def test_a_body_that_drips_is_ended_by_the_time_for_all_of_it() -> None:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while True:
            await receive()

    async def drip() -> Any:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"", "more_body": True}

    async def nothing(_message: Any) -> None:
        raise AssertionError("there is no answer")

    limited = BodyLimitMiddleware(app, max_bytes=10, max_total_bytes=10, seconds=0.1, idle_seconds=60)
    with pytest.raises(ProblemError, match=r"0\.1 s in all") as caught:
        await limited({"type": "http", "headers": []}, drip, nothing)
    assert (caught.value.status_code, caught.value.slug) == (408, "upload-too-slow")


async def test_time_for_the_body_is_not_time_for_the_answer() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        assert not (await receive())["more_body"]
        await receive()  # until the client hangs up
        await send({"type": "http.response.start", "status": 204, "headers": []})

    messages = iter([{"type": "http.request", "body": b"all", "more_body": False}])

    async def receive() -> Any:
        if message := next(messages, None):
            return message
        await asyncio.sleep(0.1)
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    limited = BodyLimitMiddleware(app, max_bytes=10, max_total_bytes=10, seconds=0.05, idle_seconds=0.05)
    await limited({"type": "http", "headers": []}, receive, send)
    assert sent[0]["status"] == 204


async def test_bodies_are_counted_together_until_their_requests_end() -> None:
    ending = asyncio.Event()

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        await ending.wait()

    async def six() -> Any:
        return {"type": "http.request", "body": b"sixsix", "more_body": False}

    async def nothing(_message: Any) -> None:
        raise AssertionError("there is no answer")

    limited = BodyLimitMiddleware(app, max_bytes=10, max_total_bytes=10, seconds=60, idle_seconds=60)
    scope = {"type": "http", "headers": []}
    first = asyncio.create_task(limited(scope, six, nothing))
    await asyncio.sleep(0.01)
    with pytest.raises(ProblemError, match="10 bytes together") as caught:
        await limited(scope, six, nothing)
    assert (caught.value.status_code, caught.value.slug) == (429, "overloaded")
    ending.set()
    await first
    await limited(scope, six, nothing)


async def test_a_lone_body_may_be_larger_than_all_together() -> None:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()

    async def six() -> Any:
        return {"type": "http.request", "body": b"sixsix", "more_body": False}

    async def nothing(_message: Any) -> None:
        raise AssertionError("there is no answer")

    limited = BodyLimitMiddleware(app, max_bytes=10, max_total_bytes=5, seconds=60, idle_seconds=60)
    for _ in range(2):
        await limited({"type": "http", "headers": []}, six, nothing)


class Impatient(GuardedProtocol):
    head_seconds = 0.5


@pytest.mark.parametrize("sent", [b"", b"POST /score HTTP/1.1\r\nHost: s\r\nX: a"], ids=["silent", "half"])
async def test_a_head_that_does_not_arrive_is_a_408_and_the_connection_ends(sent: bytes) -> None:
    async with listening(open_model(), protocol=Impatient) as server:
        answer = read_answer(await server.send(sent))
    assert check_problem(answer, 408)["type"].endswith("upload-too-slow")


async def test_a_connection_that_nobody_uses_is_kept_for_longer_than_a_head_may_take() -> None:
    async with listening(open_model(), protocol=Impatient) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for seconds in (0, 6):  # uvicorn's own would end after five
            await asyncio.sleep(seconds)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n")
            assert read_answer(await reader.readuntil(b"}")).status_code == 200
        writer.close()


async def test_the_head_of_a_second_request_has_no_more_time() -> None:
    async with listening(open_model(), protocol=Impatient) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for sent in (b"GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: s\r\nX: "):
            writer.write(sent)
            answer = await reader.readuntil(b"}")
        writer.close()
    check_problem(read_answer(answer), 408)


async def test_an_answer_may_take_longer_than_a_head() -> None:
    scorer = SteeredModel()
    async with listening(scorer, protocol=Impatient) as server, server.client() as client:
        waiting = asyncio.create_task(client.post("/score", files=upload(("a.png", steered(1)))))
        await until(scorer.started.is_set)
        await asyncio.sleep(0.6)
        scorer.gate.set()
        assert (await waiting).status_code == 200


# Early refusals


async def test_an_early_answer_is_heard_by_a_client_that_sends_before_it_reads() -> None:
    async with listening(open_model(), Settings(max_request_bytes=1000)) as server, server.client() as client:
        answer = await client.post("/score", content=bytes(20_000_000), headers=FORM)
        assert check_problem(answer, 413)["type"].endswith("request-too-large")
        assert answer.headers["connection"] == "close"
        assert (await client.get("/healthz")).headers.get("connection") != "close"


async def test_overload_is_refused_before_anything_is_decoded() -> None:
    scorer = SteeredModel()
    async with serving(scorer, Settings(max_queue_cost=2)) as client:
        transport: Any = client._transport
        batcher = transport.app.state.engine.ready().batcher
        held = [asyncio.create_task(score(client, ("a.png", steered(value)))) for value in (1, 2)]
        await until(lambda: batcher.backlog == 2)
        # It would be refused as no image, had anybody looked.
        problem = check_problem(await score(client, ("b.png", b"no image")), 429)
        scorer.gate.set()
        await asyncio.gather(*held)
        check_problem(await score(client, ("b.png", b"no image")), 422)
    assert problem["type"].endswith("overloaded")


# Headers


async def test_every_answer_has_the_headers() -> None:
    broken = open_model()
    broken.combine = lambda units, results: [][0]  # type: ignore[method-assign]  # noqa: ARG005
    async with serving(broken) as client:
        answers = [
            await client.get("/healthz"),
            await client.get("/nowhere"),
            await client.get("/docs"),
            await score(client, ("a.png", b"")),
            await score(client, ("a.png", steered(1))),
        ]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 422, 500]
    for answer in answers:
        assert {name.lower() for name in SECURITY_HEADERS} <= set(answer.headers)
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_no_slash_leads_to_the_host_that_a_request_names() -> None:
    async with serving(open_model()) as client:
        answer = await client.post("/score/", files=upload(("a.png", steered(1))), headers={"Host": "evil"})
    check_problem(answer, 404)


# The page


async def test_the_page_loads_nothing_from_elsewhere() -> None:
    app = create_app(Settings(), load=lambda _: SteeredModel(), launch=in_thread)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://s") as client:
        page = await client.get("/docs")
        assert "//" not in re.sub(r"<!--.*?-->|^\s*//.*$", "", page.text, flags=re.MULTILINE)
        assert "unsafe-inline" not in page.headers["content-security-policy"].partition("style-src")[0]
        assert "sha256-" in page.headers["content-security-policy"]
        parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(parts) == 3
        for part in parts:
            answer = await client.get(f"/{part}")
            assert (answer.status_code, len(answer.content) > 1000) == (200, True)
        assert (await client.get("/openapi.json")).status_code == 200
        check_problem(await client.get("/docs/redoc.standalone.js"), 404)
