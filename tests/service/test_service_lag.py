"""How late the event loop is, and that it is counted as gone of a request's time."""

import asyncio
import time

import pytest
from service_doubles import until

from service.deadline import deadline
from service.lag import Lag


def lag_of(*seconds: float) -> Lag:
    lag = Lag(memory=20)
    for one in seconds:
        lag.learn(one)
    return lag


def test_nothing_is_late_before_anything_was_measured() -> None:
    assert Lag().seconds == 0


def test_one_of_twenty_may_be_later() -> None:
    assert lag_of(*([0.01] * 18), 0.02, 5).seconds == 0.02
    assert lag_of(*([0.01] * 18), 5, 5).seconds == 5


def test_what_is_long_ago_is_forgotten() -> None:
    assert lag_of(*([5] * 20), *([0.01] * 20)).seconds == 0.01


def test_a_clock_that_is_early_says_nothing_below_zero() -> None:
    assert lag_of(-1e-6).seconds == 0


async def test_a_loop_that_is_held_up_is_found_out() -> None:
    lag = Lag()
    measuring = asyncio.create_task(lag.measure())
    await asyncio.sleep(0.01)
    time.sleep(0.3)  # noqa: ASYNC251 - what must not happen happens
    await until(lambda: lag.seconds > 0)
    measuring.cancel()
    # It was due 0.05 s after its start.
    assert 0.2 < lag.seconds < 5


@pytest.mark.parametrize(("asked", "late", "left"), [(None, 0, 60), (1000, 0.25, 0.75), (1000, 7, 0.5)])
async def test_a_request_has_waited_before_it_was_read(asked: int | None, late: float, left: float) -> None:
    now = asyncio.get_running_loop().time()
    async with deadline(asked, 60_000, lag_of(late)) as until:
        assert until - now == pytest.approx(left, abs=0.1)


async def test_an_answer_that_is_late_by_the_lag_alone_is_given() -> None:
    async with deadline(1000, 60_000, lag_of(7)) as until:
        await asyncio.sleep(until + 0.05 - asyncio.get_running_loop().time())  # no TimeoutError, no 504
