"""What pydantic has against some input, in one line."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

__all__ = ["complaints"]


def complaints(error: ValidationError, *, most: int | None = None, called: Callable[[str], str] = str) -> str:
    """Each complaint as ``place: message``, without the input, which may be megabytes.

    Args:
        error: What pydantic raised.
        called: What a place is called where the input comes from.
        most: How many are told, the first ones; all of them where it is None.
    """
    told = []
    for one in error.errors(include_input=False, include_url=False)[:most]:
        place = ".".join(map(str, one["loc"]))
        # Pydantic's own prefix of a ValueError that a validator raised.
        message = one["msg"].removeprefix("Value error, ")
        told.append(f"{called(place)}: {message}" if place else message)
    return "; ".join(told)
