"""How long a request may take."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Header

from service.lag import Lag
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
async def deadline(asked: int | None, most: int, lag: Lag) -> AsyncIterator[float]:
    """Cancel what is within, and answer 504, when a request's time is over.

    Args:
        asked: Milliseconds that the client gives it.
        most: Milliseconds that the server gives any.
        lag: Of the event loop: about as long a request has waited before it was read.

    Yields:
        When its answer should be ready, by the event loop's clock: in the time that is left after such a wait, or in
        half of its time if that is longer. An answer that is late by this, but not by the time from now, may still be
        of use.
    """
    allowed = most if asked is None else min(asked, most)
    seconds = allowed / 1000
    now = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(now + seconds) as timeout:
            yield now + seconds - min(lag.seconds, seconds / 2)
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise ProblemError(504, "deadline-passed", f"the request is not answered after {allowed:,} ms") from error
