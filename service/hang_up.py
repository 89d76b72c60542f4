"""A client that hangs up: nobody works for it any more."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import cast

from starlette.types import Message, Receive, Scope, Send

from service.middleware import HttpMiddleware
from service.unread_body import UnreadBody

__all__ = ["HangUpMiddleware"]


class HangUpMiddleware(HttpMiddleware):
    """Cancels the handling of a request whose client has hung up.

    Until the end of the body that is noticed as the application reads on, and from there on, or from the beginning
    where there is no body, whatever it is waiting for.
    """

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, in the same task, as one more takes its time."""
        handling = _Handling(receive, send)
        body = UnreadBody(scope, handling.receive, handling.send)
        with handling.ending_with_its_client():
            if not body.is_unread:
                await handling.begin_to_listen()
            await self._app(scope, body.receive, body.send)


class _Handling:
    """Of one request, in the task in which this is made.

    Args:
        receive: Hears the client.
        send: Takes the answer.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._task = cast(asyncio.Task[None], asyncio.current_task())
        self._receive = receive
        self._send = send
        self._kept: Message | None = None
        self._listening: asyncio.Task[Message] | None = None
        self._answered = False
        self._hung_up = False
        self._over = False

    async def send(self, message: Message) -> None:
        """Send, and note the end of the answer."""
        # Noted first: a client may hang up as soon as it has the last byte, when there is still to be cleaned up.
        self._answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    async def receive(self) -> Message:
        """The next part of the body, or, after its last, the end of the connection; that at once, once this is over."""
        if self._over:
            return {"type": "http.disconnect"}
        if self._kept is not None:
            kept, self._kept = self._kept, None
            return kept
        if self._listening is not None:
            return await asyncio.shield(self._listening)
        message = await self._hear()
        if not message.get("more_body", False):
            self._listening = asyncio.create_task(self._hear())  # there is nothing else to come
        return message

    async def begin_to_listen(self) -> None:
        """Do so before there is anything to receive but that there is no body; that is kept."""
        self._kept = await self.receive()

    async def _hear(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not (self._answered or self._hung_up):
            self._hung_up = True
            self._task.cancel()
            await asyncio.sleep(0)  # where it ends, if it was the handling itself that heard
        return message

    @contextlib.contextmanager
    def ending_with_its_client(self) -> Iterator[None]:
        """End without an error where the client has hung up, and listen no longer."""
        try:
            yield
        except asyncio.CancelledError:
            if not self._hung_up or self._task.cancelling() > 1:
                raise
        finally:
            self._over = True
            if self._hung_up:
                self._task.uncancel()
            if self._listening is not None:
                self._listening.cancel()
                self._listening = None  # which has this, too: nothing is left for the garbage collector
