"""What the server itself refuses, before there is a request: as the application would, and in a time of its own."""

import asyncio
import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.problems import PROBLEM_MEDIA_TYPE, REQUEST_ID_HEADER, problem_of
from service.security_headers import SECURITY_HEADERS

__all__ = ["SERVER_OPTIONS", "GuardedProtocol"]

_GRACE_SECONDS: Final = 1.0
# Bytes of a head, and of what comes between the parts of a body that is sent in chunks.
_LARGEST_HEAD: Final = 65_536
_VERSIONS: Final = frozenset({"1.0", "1.1"})


class _HeadError(Exception):
    """The head of a request is refused; says why."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but for strangers.

    That one waits for the head of a request for as long as a client likes, and lets it be as large; it takes what the
    parser does not object to, such as a request that names no host; it loses the body of a request that would rather
    speak another protocol; and it answers plain text. A client that does not wait for its answer before the next
    request is answered once, and then its connection ends: none of those that are in use does so.

    Attributes:
        head_seconds: Longest time from the first sign of a request, or of a new connection, to the end of its head.
    """

    head_seconds = 20.0

    _late: asyncio.TimerHandle | None = None
    _deaf = False
    _head = 0  # bytes of the head, and of what follows a body in chunks
    _in_head = False
    _unheard = 0  # bytes of which the parser has told nothing yet, about
    _upgrades = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, or no more; what follows a refusal, or a request that is not answered yet, is thrown away."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._unheard += len(data)
        self._feed(data)
        if self._unheard > _LARGEST_HEAD and not self._deaf:
            self._object(_too_large())
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        self._forget()

    def _feed(self, data: bytes) -> None:
        rest = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self._object(error)
        if rest is not None:  # not while an exception is handled: it would take the place of the next one's cause
            self._feed_again(rest)

    def _feed_again(self, rest: bytes) -> None:
        """Parse the head without its wish for another protocol, for which the parser has stopped before the body."""
        version = self.parser.get_http_version().encode()
        line = b" ".join((self.parser.get_method(), self.url, b"HTTP/" + version))
        fields = [b": ".join(field) for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join([line, *fields, b"", rest]))

    def on_message_begin(self) -> None:
        """Begin to count its head."""
        if self._is_asked:
            raise _HeadError("the request before is not answered yet")
        super().on_message_begin()
        self._head, self._in_head = 0, True

    def on_url(self, url: bytes) -> None:
        """Count it."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count it, and forget what comes after the body, where nobody looks for it."""
        self._count(len(name) + len(value) + 4)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, if it is the head of a request."""
        self._unheard, self._in_head = 0, False
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise _HeadError(f"HTTP/{version} is not spoken here")
        if self.parser.get_method() == b"CONNECT":
            raise _HeadError("this is no proxy")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (version == "1.1" and not hosts):
            raise _HeadError(f"there is not one header Host, but {hosts}")
        self._upgrades = self.parser.should_upgrade()
        if not self._upgrades:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Let it be read."""
        self._unheard = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Let its end be known."""
        self._unheard = 0
        if not self._upgrades:
            super().on_message_complete()

    @property
    def _is_under_way(self) -> bool:
        """Whether there is a request that is not answered to the end."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_asked(self) -> bool:
        """Whether there is such a one, and it is here to its end."""
        return self._is_under_way and not self.cycle.more_body

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > _LARGEST_HEAD:
            raise _too_large()

    def _watch(self) -> None:
        if self._deaf or self._is_under_way:
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

    def _object(self, error: Exception) -> None:
        """Answer what is no HTTP, or end with the answer that is under way."""
        if self._is_asked:
            self._deaf = True
            self.cycle.keep_alive = False
            return
        cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
        # What else was raised, by uvicorn, is of an address that it cannot read.
        known = isinstance(cause, (_HeadError, httptools.HttpParserError))
        self._refuse(400, "not-http", str(cause) if known else "the address is none")

    def _refuse(self, status: int, slug: str, detail: str) -> None:
        """Answer, unless an answer is under way, and close the connection, if the client does not do so first.

        Closed at once, a connection on which bytes arrive is reset, and the answer may be lost.
        """
        self._deaf = True
        is_answered = self._is_under_way and self.cycle.response_started
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.waiting_for_100_continue = False  # or it would write where nothing may be written any more
            self.cycle.message_event.set()
        if not is_answered:
            request_id = secrets.token_hex(16)
            body = problem_of(status, slug, detail, request_id).model_dump_json(exclude_none=True).encode()
            headers = {
                **SECURITY_HEADERS,
                REQUEST_ID_HEADER: request_id,
                "Content-Type": PROBLEM_MEDIA_TYPE,
                "Content-Length": str(len(body)),
                "Connection": "close",
            }
            fields = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
            self.transport.write(b"".join([STATUS_LINE[status], *fields, b"\r\n", body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        # A client that reads nothing would keep open what is closed only when all is written.
        self.loop.call_later(_GRACE_SECONDS, self.transport.abort)


def _too_large() -> _HeadError:
    return _HeadError(f"the head of the request is larger than {_LARGEST_HEAD:,} bytes")


# A connection that is closed just as a client uses it once more is a request lost. Balancers keep unused ones for a
# minute, so for longer than that.
_KEEP_ALIVE_SECONDS: Final = 75

SERVER_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "http": GuardedProtocol,
        "ws": "none",
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
    }
)
"""For `uvicorn.Config`: this protocol alone, and no word on who speaks it. Nobody asks who a client is."""
