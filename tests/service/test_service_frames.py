"""Messages as bytes: in pieces, several at a time, and not to their end."""

import asyncio
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.frames import FrameProtocol, packed, read_frame

MESSAGES = st.lists(st.one_of(st.none(), st.binary(max_size=300), st.lists(st.integers())), max_size=8)


class Hearing:
    """A protocol, what it has heard, and how it ended."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.Future()
        self.protocol = FrameProtocol(self.heard.append, self.lost)


@given(MESSAGES, st.integers(1, 50))
def test_messages_arrive_whole_and_in_order_whatever_the_pieces(messages: list[Any], size: int) -> None:
    async def hear() -> list[Any]:
        hearing = Hearing()
        data = b"".join(map(packed, messages))
        for at in range(0, len(data), size):
            hearing.protocol.data_received(data[at : at + size])
        return hearing.heard

    assert asyncio.run(hear()) == messages


@given(MESSAGES)
def test_a_file_gives_them_one_after_the_other(messages: list[Any]) -> None:
    file = io.BytesIO(b"".join(map(packed, messages)))
    assert [read_frame(file) for _ in messages] == messages


@pytest.mark.parametrize("kept", [0, 5, 8, 20])
def test_a_file_that_ends_has_no_other(kept: int) -> None:
    with pytest.raises(EOFError, match="the other end was closed"):
        read_frame(io.BytesIO(packed(bytes(100))[:kept]))


@pytest.mark.parametrize("error", [None, ConnectionResetError(), BrokenPipeError()])
async def test_the_end_of_the_other_process_is_no_fault(error: Exception | None) -> None:
    hearing = Hearing()
    hearing.protocol.connection_lost(error)
    assert await hearing.lost is None


async def test_what_cannot_be_heard_is_one() -> None:
    hearing = Hearing()
    error = MemoryError()
    hearing.protocol.connection_lost(error)
    assert await hearing.lost is error
