"""What the process of a server relies on."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from service_doubles import SteeredModel, steered
from service_sockets import listening, request_of

from service.engine import Engine
from service.server import _Server


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Garbage stays, unless somebody looks for it; and it is garbage, though pytest keeps errors that are logged."""
    logging.disable()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("image", "status"),
    [(steered(1), b"200"), (b"no image", b"422"), (steered(255), b"500")],
    ids=["answered", "refused", "failed"],
)
@pytest.mark.usefixtures("uncollected")
async def test_a_request_leaves_nothing_that_only_the_garbage_collector_finds(image: bytes, status: bytes) -> None:
    model = SteeredModel()
    model.gate.set()
    request = request_of(image)

    async def ask() -> None:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split()[1] == status
        (length,) = (line.split()[1] for line in head.splitlines() if line.startswith(b"content-length"))
        await reader.readexactly(int(length))

    async with listening(model) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(5):
            await ask()
        gc.collect()
        for _ in range(20):
            await ask()
        found = gc.collect()
        writer.close()
    assert found < 20


@pytest.mark.parametrize(("ticks", "collected"), [(600, True), (601, False)])
@pytest.mark.usefixtures("uncollected")
async def test_garbage_is_looked_for_by_the_clock(ticks: int, collected: bool) -> None:
    class Knot:
        def __init__(self) -> None:
            self.itself: Any = self

    config = uvicorn.Config("service:create_app")
    config.encoded_headers = []
    server = _Server(config, cast(Engine, SimpleNamespace(failure=None)))
    left = weakref.ref(Knot())
    await server.on_tick(ticks)
    assert (left() is None) == collected
