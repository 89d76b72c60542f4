"""A client that hangs up, over a real socket to a real server."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from service_doubles import SteeredModel, steered, until, upload
from service_sockets import listening, request_of

from service.hang_up import HangUpMiddleware


async def test_the_units_of_a_client_that_hung_up_leave_the_queue() -> None:
    scorer = SteeredModel()
    async with listening(scorer) as server:
        batcher = server.engine.ready().batcher
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request_of(*map(steered, range(1, 21))))
        await until(lambda: batcher.backlog == 20)
        writer.close()
        await until(lambda: batcher.backlog == 0)
        scorer.gate.set()
        async with server.client() as client:
            answer = await client.post("/score", files=upload(("b.png", steered(99))))
    assert answer.json()["results"][0]["bits_per_dim"] == 99
    assert scorer.batches == [[*range(1, 9)], [99]]


async def test_a_client_that_hangs_up_while_it_sends_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    scorer = SteeredModel()
    async with listening(scorer) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request_of(steered(1), steered(2))[:-100])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.05)
        assert server.engine.ready().batcher.backlog == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_what_follows_the_answer_is_not_cut_off() -> None:
    cleaned_up = False

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal cleaned_up
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})
        await asyncio.sleep(0.02)
        cleaned_up = True

    answer = await httpx.AsyncClient(transport=httpx.ASGITransport(HangUpMiddleware(app))).get("http://s")
    assert (answer.text, cleaned_up) == ("done", True)


async def test_a_request_without_a_body_is_given_up_too() -> None:
    ended: list[BaseException] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    messages = iter([{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(_message: Any) -> None:
        raise AssertionError("there is no answer")

    async with asyncio.timeout(10):
        await HangUpMiddleware(app)({"type": "http", "headers": []}, receive, send)
    assert len(ended) == 1
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_request_that_is_cancelled_from_outside_stays_so() -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.sleep(60)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": True}

    async def send(_message: Any) -> None:
        raise AssertionError("there is no answer")

    handling = asyncio.create_task(HangUpMiddleware(app)({"type": "http", "headers": []}, receive, send))
    await asyncio.sleep(0.01)
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling


async def test_whoever_asks_for_more_than_the_body_waits_until_the_client_has_gone() -> None:
    told: list[str] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        told.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        told.append((await receive())["type"])

    answer = await httpx.AsyncClient(transport=httpx.ASGITransport(HangUpMiddleware(app))).get("http://s")
    assert (answer.status_code, told) == (204, ["http.request", "http.disconnect"])


async def test_a_request_that_is_cancelled_as_its_client_hangs_up_stays_so() -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.sleep(60)

    messages: Iterator[dict[str, Any]] = iter([{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        message = next(messages)
        if message["type"] == "http.disconnect":
            handling.cancel()  # both come as one exception
        return message

    async def send(_message: Any) -> None:
        raise AssertionError("there is no answer")

    handling = asyncio.create_task(HangUpMiddleware(app)({"type": "http", "headers": []}, receive, send))
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert handling.cancelling() == 1


async def test_a_client_that_hangs_up_within_its_body_ends_whoever_reads() -> None:
    read: list[str] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while True:
            read.append((await receive())["type"])

    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(_message: Any) -> None:
        raise AssertionError("there is no answer")

    scope = {"type": "http", "headers": [(b"content-length", b"2")]}
    async with asyncio.timeout(10):
        await HangUpMiddleware(app)(scope, receive, send)
    assert read == ["http.request"]


async def test_whoever_still_reads_when_all_is_over_hears_that_and_ends_nobody() -> None:
    late: list[Any] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        late.append(receive)

    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}])

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(_message: Any) -> None:
        raise AssertionError("there is no answer")

    await HangUpMiddleware(app)({"type": "http", "headers": [(b"content-length", b"2")]}, receive, send)
    assert (await late[0]())["type"] == "http.disconnect"
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
