"""The application behind a real server within this process, and requests to it as bytes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from service_doubles import SETTINGS, in_thread, tiny_scorer, until, upload

from service import Settings, create_app
from service.engine import Engine
from service.http_protocol import SERVER_OPTIONS, GuardedProtocol


@dataclass(frozen=True)
class Listening:
    """A running server."""

    port: int
    engine: Engine

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)

    async def send(self, *parts: bytes) -> bytes:
        """All that the server answers until it closes the connection; the parts are sent one after the other."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(60):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                return await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def listening(
    scorer: Any = None, settings: Settings = SETTINGS, protocol: type[GuardedProtocol] = GuardedProtocol
) -> AsyncIterator[Listening]:
    """A server as `pcdm serve` configures it, but for its log."""
    loaded = tiny_scorer() if scorer is None else scorer
    app = create_app(settings, load=lambda _: loaded, launch=in_thread)
    options = {**SERVER_OPTIONS, "http": protocol}
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="on", **options)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started and is_ready(app.state.engine))
    try:
        yield Listening(server.servers[0].sockets[0].getsockname()[1], app.state.engine)
    finally:
        server.should_exit = True
        await serving


def is_ready(engine: Engine) -> bool:
    with contextlib.suppress(Exception):
        engine.ready()
        return True
    return False


def request_of(*images: bytes, **headers: str) -> bytes:
    """A whole request of these images."""
    request = httpx.Request(
        "POST", "http://s/score", files=upload(*(("a.png", image) for image in images)), headers=headers
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /score HTTP/1.1\r\n{head}\r\n".encode() + request.read()


def read_answer(raw: bytes) -> httpx.Response:
    """The first answer among these bytes, as a client sees it; its body ends with the connection, or as it says."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    answer = httpx.Response(int(first.split()[1]), headers=headers, content=b"")
    length = int(answer.headers.get("content-length", len(body)))
    return httpx.Response(answer.status_code, headers=headers, content=body[:length])
