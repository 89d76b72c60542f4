"""How long a request may take."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Final

from fastapi import Header

from service.lag import Lag
from service.problems import ProblemError

__all__ = ["RequestTimeout", "asked_by", "deadline", "due"]

_HEADER: Final = "x-request-timeout-ms"

RequestTimeout = Annotated[
    int | None,
    Header(alias=_HEADER, ge=1, description="Milliseconds after which the answer is of no use any more."),
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
        As `due`. An answer that is late by this, but not by the time from now, may still be of use.
    """
    allowed = _allowed(asked, most)
    until = due(asked, most, lag)
    try:
        async with asyncio.timeout(allowed / 1000) as timeout:
            yield until
    except TimeoutError as error:
        if not timeout.expired():
            raise
        raise ProblemError(504, "deadline-passed", f"the request is not answered after {allowed:,} ms") from error


def asked_by(headers: Mapping[str, str]) -> int | None:
    """What `RequestTimeout` is, or will be, once a request is parsed.

    Raises:
        ValueError: It is none.
    """
    told = headers.get(_HEADER)
    if told is not None and int(told) < 1:
        raise ValueError(f"{told} is no number of milliseconds")
    return None if told is None else int(told)


def due(asked: int | None, most: int, lag: Lag) -> float:
    """When the answer to a request that is read now should be ready, by the event loop's clock.

    In the time that is left after a wait as long as the lag, or in half of its time if that is longer; arguments as of
    `deadline`.
    """
    seconds = _allowed(asked, most) / 1000
    return asyncio.get_running_loop().time() + seconds - min(lag.seconds, seconds / 2)


def _allowed(asked: int | None, most: int) -> int:
    return most if asked is None else min(asked, most)
