"""A client that hangs up, over a real socket to a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from service_doubles import SETTINGS, SteeredModel, in_thread, steered, until, upload

from pcdm_client import AsyncClient
from service import create_app
from service.engine import Engine
from service.middleware import HangUpMiddleware


@contextlib.asynccontextmanager
async def listening(scorer: SteeredModel) -> AsyncIterator[tuple[int, Engine]]:
    """A server within this process: its port and its engine."""
    app = create_app(SETTINGS, load=lambda _: scorer, launch=in_thread)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started and is_ready(app.state.engine))
    try:
        yield server.servers[0].sockets[0].getsockname()[1], app.state.engine
    finally:
        scorer.gate.set()
        server.should_exit = True
        await serving


def is_ready(engine: Engine) -> bool:
    with contextlib.suppress(Exception):
        engine.ready()
        return True
    return False


def request_of(*values: int) -> bytes:
    """A whole request of these images, as bytes."""
    request = httpx.Request("POST", "http://s/score", files=upload(*(("a.png", steered(value)) for value in values)))
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /score HTTP/1.1\r\n{head}\r\n".encode() + request.read()


async def test_the_units_of_a_client_that_hung_up_leave_the_queue() -> None:
    scorer = SteeredModel()
    async with listening(scorer) as (port, engine):
        batcher = engine.ready().batcher
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_of(*range(1, 21)))
        await until(lambda: batcher.backlog == 20)
        writer.close()
        await until(lambda: batcher.backlog == 0)
        scorer.gate.set()
        async with AsyncClient(f"http://127.0.0.1:{port}", transport=httpx.AsyncHTTPTransport()) as client:
            answer = await client.score(steered(99))
    assert answer.results[0].bits_per_dim == 99
    assert scorer.batches == [[*range(1, 9)], [99]]


async def test_a_client_that_hangs_up_while_it_sends_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    scorer = SteeredModel()
    async with listening(scorer) as (port, engine):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_of(1, 2)[:-100])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.05)
        assert engine.ready().batcher.backlog == 0
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
