"""A route whose requests may be refused before their forms are read, which is most of what a refusal costs."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

__all__ = ["refusing_route"]

# Bytes of a body that is there as soon as its head, and is no burden while it waits to be parsed.
_SMALL: Final = 65_536


def refusing_route(check: Callable[[Request], None]) -> type[APIRoute]:
    """Routes that check a request with a small body by its head, and only then parse it.

    The body is received first: a connection on which it is still to come could not be used again.

    Args:
        check: Raises what the request is to be answered with, if it is to be refused.
    """

    class RefusingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def check_and_handle(request: Request) -> Response:
                declared = request.headers.get("content-length", "")
                if declared.isdecimal() and len(declared) <= len(str(_SMALL)) and int(declared) <= _SMALL:
                    await request.body()
                    check(request)
                return await handle(request)

            return check_and_handle

    return RefusingRoute
