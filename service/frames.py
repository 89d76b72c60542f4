"""Messages between this process and one that it has started, as bytes: pickled, each after its length.

Only the two of them have the ends of the socket: what is unpickled here was pickled there.
"""

import asyncio
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, Final

__all__ = ["FrameProtocol", "packed", "read_frame"]

_LENGTH: Final = struct.Struct("!Q")


def packed(message: object) -> bytes:
    """The bytes of a message."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


def read_frame(file: BinaryIO) -> Any:
    """Wait for the next message.

    Raises:
        EOFError: There is none, or not all of it.
    """
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError("the other end was closed")
    (length,) = _LENGTH.unpack(head)
    data = file.read(length)
    if len(data) < length:
        raise EOFError("the other end was closed within a message")
    return pickle.loads(data)  # noqa: S301 - of our own worker


class FrameProtocol(asyncio.Protocol):
    """Hears messages in an event loop.

    Args:
        hear: Is told each of them.
        lost: Comes when there will be no more: with None, or what is wrong with what was heard.
    """

    def __init__(self, hear: Callable[[Any], None], lost: asyncio.Future[Exception | None]) -> None:
        self._hear = hear
        self._lost = lost
        self._data = bytearray()

    def data_received(self, data: bytes) -> None:
        """Tell the messages that are complete now."""
        self._data += data
        while len(self._data) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._data)[0]
            if len(self._data) < end:
                return
            message = pickle.loads(self._data[_LENGTH.size : end])  # noqa: S301 - of our own worker
            del self._data[:end]
            self._hear(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that there are no more."""
        if not self._lost.done():
            self._lost.set_result(None if isinstance(exc, ConnectionError) else exc)
