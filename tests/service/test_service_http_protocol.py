"""Requests on their way through the parser: other protocols, several at a time, parts that nobody asked for."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from service_doubles import SteeredModel, check_problem, steered, until
from service_sockets import Listening, listening, read_answer, request_of

from service.http_protocol import GuardedProtocol

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: s\r\n\r\n"


@pytest.fixture
async def model() -> SteeredModel:
    return SteeredModel()


@pytest.fixture
async def server(model: SteeredModel) -> AsyncIterator[Listening]:
    async with listening(model) as running:
        yield running


class Connection:
    """One connection, and its answers one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, sent: bytes) -> int:
        self.writer.write(sent)
        head = await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(int(read_answer(head).headers["content-length"]))
        return read_answer(head).status_code


@pytest.fixture
async def connection(server: Listening) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(60):
        yield Connection(reader, writer)
    writer.close()


# Other protocols


@pytest.mark.parametrize("pieces", [1, 2, 500], ids=["at-once", "in-two", "in-many"])
async def test_a_client_that_would_rather_speak_http_2_is_answered_as_any(
    model: SteeredModel, connection: Connection, pieces: int
) -> None:
    model.gate.set()
    request = request_of(steered(1), Connection="Upgrade, HTTP2-Settings", Upgrade="h2c")
    size = -(-len(request) // pieces)
    for at in range(0, len(request) - size, size):
        connection.writer.write(request[at : at + size])
        await asyncio.sleep(0)
    last = (len(request) - 1) // size * size
    assert await connection.ask(request[last:]) == 200
    assert await connection.ask(HEALTH) == 200


async def test_a_wish_for_a_web_socket_is_not_granted(connection: Connection) -> None:
    assert await connection.ask(HEALTH[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n") == 200
    assert await connection.ask(HEALTH) == 200


async def test_an_old_client_that_wishes_so_stays_one(connection: Connection) -> None:
    connection.writer.write(b"GET /healthz HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert read_answer(await connection.reader.read()).status_code == 200


async def test_an_address_with_a_host_is_of_this_one(connection: Connection) -> None:
    assert await connection.ask(b"GET http://evil/healthz HTTP/1.1\r\nHost: s\r\n\r\n") == 200
    assert await connection.ask(b"GET http://evil/score HTTP/1.1\r\nHost: s\r\n\r\n") == 405


async def test_what_is_wrong_after_such_a_wish_is_told(connection: Connection) -> None:
    wish = b"POST /score HTTP/1.1\r\nHost: s\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    connection.writer.write(wish + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 30_000)
    problem = check_problem(read_answer(await connection.reader.read()), 400)
    assert problem["detail"] == "the head of the request is larger than 65,536 bytes"


# Several at a time


async def test_one_that_comes_before_the_answer_ends_the_connection_after_it(
    model: SteeredModel, connection: Connection
) -> None:
    connection.writer.write(request_of(steered(1)))
    await until(model.started.is_set)
    connection.writer.write(HEALTH * 2)
    await asyncio.sleep(0.1)
    model.gate.set()
    assert (await connection.reader.read()).count(b"HTTP/1.1 200 OK") == 1


async def test_two_at_once_are_one_answer(model: SteeredModel, connection: Connection) -> None:
    model.gate.set()
    connection.writer.write(request_of(steered(1)) + HEALTH)
    assert (await connection.reader.read()).count(b"HTTP/1.1 200 OK") == 1


async def test_garbage_after_a_request_does_not_cost_its_answer(model: SteeredModel, connection: Connection) -> None:
    model.gate.set()
    connection.writer.write(request_of(steered(1)) + b"\x00 garbage \r\n")
    answers = await connection.reader.read()
    assert (answers.count(b"HTTP/1.1"), read_answer(answers).status_code) == (1, 200)


async def test_whoever_sends_too_soon_and_hangs_up_frees_the_work(server: Listening, model: SteeredModel) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request_of(steered(1)) + HEALTH * 10)
    await until(model.started.is_set)
    writer.close()
    await until(lambda: server.engine.ready().batcher.backlog == 0)
    assert not await reader.read()
    model.gate.set()  # for the thread that waits there


# Parts


async def test_chunks_may_be_many_and_small(model: SteeredModel, connection: Connection) -> None:
    model.gate.set()
    head, _, body = request_of(steered(1)).partition(b"\r\n\r\n")
    head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length"))
    name = b";" + b"n" * 2000  # much more than a head may be, all together
    chunks = b"".join(b"1%b\r\n%c\r\n" % (name, byte) for byte in body)
    assert len(chunks) > 5 * 65_536
    sent = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Last: 1\r\n\r\n"
    assert await connection.ask(sent) == 200
    assert await connection.ask(HEALTH) == 200


async def test_a_key_after_the_body_is_none() -> None:
    seen: list[object] = []

    class Noting(GuardedProtocol):
        def on_message_complete(self) -> None:
            super().on_message_complete()
            seen.append([name for name, _ in self.headers])

    async with listening(SteeredModel(), protocol=Noting) as server:
        sent = b"POST /score HTTP/1.1\r\nHost: s\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        check_problem(read_answer(await server.send(sent + b"0\r\nX-API-Key: a\r\n\r\n")), 422)
    assert seen == [[b"host", b"connection", b"transfer-encoding"]]


async def test_a_head_of_nearly_the_limit_is_read(connection: Connection) -> None:
    assert await connection.ask(HEALTH[:-2] + b"X: " + b"a" * 65_000 + b"\r\n\r\n") == 200


async def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(
    model: SteeredModel, connection: Connection
) -> None:
    model.gate.set()
    head, _, body = request_of(steered(1), Expect="100-continue").partition(b"\r\n\r\n")
    connection.writer.write(head + b"\r\n\r\n")
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert await connection.ask(body) == 200


async def test_a_client_that_waits_to_be_asked_and_sends_no_http_leaves_nothing_behind(server: Listening) -> None:
    before = asyncio.all_tasks()
    head = b"POST /score HTTP/1.1\r\nHost: s\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    sent = head + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    check_problem(read_answer(await server.send(sent)), 400)
    async with asyncio.timeout(10):  # half of the time in which its body might still arrive
        await until(lambda: asyncio.all_tasks() <= before)


async def test_a_refused_client_that_reads_nothing_is_cut_off() -> None:
    lost = asyncio.Event()

    class Flooding(GuardedProtocol):
        def data_received(self, data: bytes) -> None:
            self.transport.write(bytes(2**25))  # more than both ends take in
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    async with listening(SteeredModel(), protocol=Flooding) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.write(b"\x00\r\n\r\n")
        try:
            async with asyncio.timeout(10):
                await lost.wait()
        finally:
            writer.transport.abort()  # or a server that has not cut it off would not end
