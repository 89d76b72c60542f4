"""What the process of a server relies on."""

import asyncio
import gc

import pytest
from service_doubles import SteeredModel, steered
from service_sockets import listening, request_of


@pytest.mark.parametrize(
    ("image", "status"), [(steered(1), b"200"), (b"no image", b"422")], ids=["answered", "refused"]
)
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
        gc.disable()
        try:
            for _ in range(20):
                await ask()
            assert gc.collect() < 20
        finally:
            gc.enable()
            writer.close()
