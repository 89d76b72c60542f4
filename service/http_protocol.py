"""What the server itself refuses, before there is a request: as the application would, and in a time of its own."""

import asyncio
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from service.problems import PROBLEM_MEDIA_TYPE, REQUEST_ID_HEADER, problem_of
from service.security_headers import SECURITY_HEADERS

__all__ = ["SERVER_OPTIONS", "GuardedProtocol"]

_GRACE_SECONDS: Final = 1.0


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol, which waits for the head of a request for as long as a client likes, and answers plain text.

    Attributes:
        head_seconds: Longest time from the first sign of a request, or of a new connection, to the end of its head.
    """

    head_seconds = 20.0

    _late: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, or no more; what follows a refusal is thrown away."""
        if not self._refused:
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._forget()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(400, "not-http", msg)

    def _watch(self) -> None:
        if self._refused or (self.cycle is not None and not self.cycle.response_complete):
            self._forget()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(self.head_seconds, self._give_up)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        detail = f"the head of the request did not arrive within {self.head_seconds:g} s"
        self._refuse(408, "upload-too-slow", detail)

    def _refuse(self, status: int, slug: str, detail: str) -> None:
        """Answer, unless an answer is under way, and close the connection, if the client does not do so first.

        Closed at once, a connection on which bytes arrive is reset, and the answer may be lost.
        """
        self._refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            request_id = uuid.uuid4().hex
            body = problem_of(status, slug, detail, request_id).model_dump_json(exclude_none=True).encode()
            headers = {
                **SECURITY_HEADERS,
                REQUEST_ID_HEADER: request_id,
                "Content-Type": PROBLEM_MEDIA_TYPE,
                "Content-Length": str(len(body)),
                "Connection": "close",
            }
            head = h11.Response(status_code=status, headers=list(headers.items()), reason=STATUS_PHRASES[status])
            for event in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_GRACE_SECONDS, self.transport.close)


# A connection that is closed just as a client uses it once more is a request lost. Balancers keep unused ones for a
# minute, so for longer than that.
_KEEP_ALIVE_SECONDS: Final = 75

SERVER_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {"http": GuardedProtocol, "ws": "none", "server_header": False, "timeout_keep_alive": _KEEP_ALIVE_SECONDS}
)
"""For `uvicorn.Config`: this protocol alone, and no word on who speaks it."""
