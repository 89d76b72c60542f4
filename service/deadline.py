"""How long a request may take."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header

from service.problems import ProblemError

__all__ = ["RequestTimeout", "deadline"]

RequestTimeout = Annotated[
    int | None,
    Header(
        alias="x-request-timeout-ms", ge=1, description="Milliseconds after which the answer is of no use any more."
    ),
]
"""The header by which a client asks for less time than the server would take."""


@contextlib.asynccontextmanager
async def deadline(asked: int | None, most: int) -> AsyncIterator[float]:
    """Cancel what is within, and answer 504, when the client's time or the server's is over, in milliseconds.

    Yields:
        When that will be, by the event loop's clock.
    """
    allowed = most if asked is None else min(asked, most)
    until = asyncio.get_running_loop().time() + allowed / 1000
    try:
        async with asyncio.timeout_at(until) as timeout:
            yield until
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise ProblemError(504, "deadline-passed", f"the request is not answered after {allowed:,} ms") from error
