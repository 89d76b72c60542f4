"""Whether and when to ask again. No clock and no random numbers of its own, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["DEFAULT_RETRIES", "RetryPolicy", "retry_after_of"]


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long, a request is repeated that failed for a passing reason.

    The wait is drawn evenly from zero to a length that doubles each time ("full jitter"), and comes after the
    seconds that the service asked for: clients that were turned away together should not return together.

    Args:
        most: Most repetitions; 0 for none.
        first: Longest wait before the first repetition, seconds.
        longest: Longest wait that this policy adds by itself, seconds.

    Raises:
        ValueError: A number is out of its range.
    """

    most: int = 8
    first: float = 0.25
    longest: float = 10.0

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"most must be 0 or more repetitions, not {self.most}")
        if not 0 < self.first <= self.longest < math.inf:
            raise ValueError(f"0 < first <= longest must hold, in seconds, not first={self.first}, {self.longest=}")

    def wait(self, repetitions: int, draw: float, retry_after: float | None = None) -> float | None:
        """Seconds to wait before the next attempt.

        Args:
            repetitions: How many there were already.
            draw: An even random number in [0, 1).
            retry_after: Seconds that the service asked for.

        Returns:
            At least `retry_after`; None if there shall be no other attempt.
        """
        if repetitions >= self.most:
            return None
        doublings = min(repetitions, 64)  # far beyond the longest wait, and no overflow
        return (retry_after or 0.0) + draw * min(self.longest, math.ldexp(self.first, doublings))


DEFAULT_RETRIES: Final = RetryPolicy()


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds after which an answer wants its request repeated.

    A date is compared with the answer's own `Date`: the service's clock need not agree with the one here.

    Args:
        headers: Of the answer; looked up in lower case.

    Returns:
        Zero or more; None if the headers do not say, or not in a form that can be understood.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value)
    then, now = _date(value), _date(headers.get("date", ""))
    if then is None or now is None:
        return None
    return max(0.0, (then - now).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    # The zone of HTTP is always GMT; parsed dates of "-0000" have none, which cannot be compared with the others.
    return date.replace(tzinfo=None) if date.utcoffset() is None or not date.utcoffset() else None
