"""What wraps every request. Pure ASGI: a wrapper that buffers would hide a client that hangs up."""

import asyncio
import re
import secrets
from abc import ABC, abstractmethod
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import REQUEST_ID_HEADER, ProblemError
from service.security_headers import SECURITY_HEADERS

__all__ = [
    "BodyLimitMiddleware",
    "HttpMiddleware",
    "RequestIdMiddleware",
    "SecurityHeadersMiddleware",
]

# What is safe to repeat in a header and in a log line.
_ACCEPTED_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RAW_HEADERS: Final = tuple((name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items())


class HttpMiddleware(ABC):
    """Leaves alone whatever is no request, such as the start and the end of the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or around."""
        await (self._handle if scope["type"] == "http" else self._app)(scope, receive, send)

    @abstractmethod
    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""


class RequestIdMiddleware(HttpMiddleware):
    """Gives every request an id: the client's own if it is a plain word of at most 64 characters, or a new one."""

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the id in the request's state and in the answer's header."""
        offered = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = offered if _ACCEPTED_ID.fullmatch(offered) else secrets.token_hex(16)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class SecurityHeadersMiddleware(HttpMiddleware):
    """Gives every answer the headers of `SECURITY_HEADERS` that it does not have."""

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add them as the answer begins."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _RAW_HEADERS if one[0] not in own)]
            await send(message)

        await self._app(scope, receive, send_guarded)


class BodyLimitMiddleware(HttpMiddleware):
    """Stops reading a body that is too large, or says so, or too much beside others, or that does not arrive in time.

    Args:
        app: What reads the body, and holds it until the request ends.
        max_bytes: Largest body.
        max_total_bytes: Most bytes of all bodies that are held at the same time. A lone body may be as large as any.
        seconds: Longest time from the beginning of the request to the end of its body.
        idle_seconds: Longest time in which none of it arrives.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, max_total_bytes: int, seconds: float, idle_seconds: float
    ) -> None:
        super().__init__(app)
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._held = 0
        self._seconds = seconds
        self._idle_seconds = idle_seconds

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with a `receive` that counts."""
        declared = Headers(scope=scope).get("content-length", "0")
        # So many digits are no number to Python, and too many bytes to anybody.
        refused = declared.isdecimal() and (len(declared) > 20 or int(declared) > self._max_bytes)
        seen = 0
        arriving = True
        now = asyncio.get_running_loop().time
        deadline = now() + self._seconds

        async def receive_counted() -> Message:
            # Raised where the body is read, within reach of the application's error handlers.
            nonlocal seen, arriving
            if not arriving:  # whoever waits for a client to hang up may wait
                return await receive()
            message: Message = {}
            if not refused:
                try:
                    async with asyncio.timeout_at(min(deadline, now() + self._idle_seconds)) as timeout:
                        message = await receive()
                except TimeoutError as error:
                    if not timeout.expired():
                        raise
                    raise self._too_slow() from error
            arrived = len(message.get("body", b""))
            seen += arrived
            self._held += arrived
            if refused or seen > self._max_bytes:
                detail = f"the request is larger than the limit of {self._max_bytes:,} bytes"
                raise ProblemError(413, "request-too-large", detail)
            if self._held > max(self._max_total_bytes, seen):
                detail = f"the requests that are under way hold more than {self._max_total_bytes:,} bytes together"
                raise ProblemError(429, "overloaded", detail, retry_after=1)
            arriving = message.get("more_body", False)
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            self._held -= seen

    def _too_slow(self) -> ProblemError:
        allowed = f"{self._seconds:,g} s in all, {self._idle_seconds:,g} s without a byte"
        return ProblemError(408, "upload-too-slow", f"the body did not arrive in time (at most {allowed})")
