"""An answer that comes before the whole body has been read: the connection ends with it, but not before it is heard."""

import asyncio
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

__all__ = ["UnreadBody"]

_IDLE_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 5.0


class UnreadBody:
    """Stands between a request's handler and the server, and notes whether the body has been read to its end.

    If it has not when the answer begins, the connection is closed after it: a server would otherwise read on, and throw
    away what a client sends, for as long as that likes to. A connection that is closed while bytes arrive is reset,
    and a client that sends before it reads would never see the answer. So what is on its way is read and thrown away,
    until nothing comes for a second, for five at most.

    Args:
        scope: Of the request.
        receive: The only one to receive by, from now on.
        send: Takes the answer.

    Attributes:
        is_unread: Whether there is a body of which not all has been read.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._send = send
        self.is_unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._closes = False

    async def receive(self) -> Message:
        """Receive, and note the end of the body."""
        message = await self._receive()
        self.is_unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send, and read the rest of the body before the last part of an answer that has come early."""
        if message["type"] == "http.response.start" and self.is_unread:
            self._closes = True
            MutableHeaders(scope=message)["Connection"] = "close"
        if message["type"] == "http.response.body" and self._closes and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._throw_away()
            message = {"type": "http.response.body"}
        await self._send(message)

    async def _throw_away(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                while self.is_unread:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        await self.receive()
        except TimeoutError:
            return
