"""Whether, when and how often a request is repeated, on a clock of the test's own."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdm_client import ClientError, DeadlinePassedError, OverloadedError, RetryPolicy
from pcdm_client.core import Core, Pause, Reply, Send, Steps
from pcdm_client.retry import retry_after_of

DRAWS = st.floats(0, 1, exclude_max=True)
POLICIES = st.builds(
    lambda most, first, factor: RetryPolicy(most, first, first * factor),
    st.integers(0, 6),
    st.floats(0.01, 5),
    st.floats(1, 100),
)


# The policy


@given(POLICIES, st.integers(0, 3000), DRAWS, st.none() | st.floats(0, 1e6))
def test_a_wait_is_within_its_bounds(
    policy: RetryPolicy, repetitions: int, draw: float, retry_after: float | None
) -> None:
    wait = policy.wait(repetitions, draw, retry_after)
    if repetitions >= policy.most:
        assert wait is None
    else:
        asked = retry_after or 0.0
        assert wait is not None
        assert asked <= wait <= asked + min(policy.longest, policy.first * 2**repetitions)


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(most=10_000, first=0.5, longest=3)
    assert [policy.wait(place, 0.5) for place in (0, 1, 2, 3, 9_999)] == [0.25, 0.5, 1, 1.5, 1.5]


@pytest.mark.parametrize("unfit", [{"most": -1}, {"first": 0}, {"first": 2, "longest": 1}, {"longest": math.inf}])
def test_an_impossible_policy_is_refused(unfit: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(unfit))):
        RetryPolicy(**unfit)


@given(st.integers(0, 2**31), st.integers(-100_000, 100_000))
def test_a_date_is_as_many_seconds_from_the_services_own_clock(now: int, later: int) -> None:
    headers = {"date": formatdate(now, usegmt=True), "retry-after": formatdate(max(0, now + later), usegmt=True)}
    assert retry_after_of(headers) == max(0, max(0, now + later) - now)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), (" 0 ", 0), ("-1", None), ("1.5", None), ("soon", None), ("²", None), (None, None)]
)
def test_seconds_are_read_and_nonsense_is_not(value: str | None, seconds: float | None) -> None:
    dated = {"date": formatdate(0, usegmt=True)}
    assert retry_after_of(dated if value is None else dated | {"retry-after": value}) == seconds


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_header_is_too_odd(value: str, date: str) -> None:
    seconds = retry_after_of({"retry-after": value, "date": date})
    assert seconds is None or seconds >= 0


# The conversation


@dataclass
class Played:
    """A request whose answers are a script, each with the seconds that it takes."""

    timeout: float
    policy: RetryPolicy
    script: list[tuple[float, Reply]]
    draw: float = 0.5
    now: float = 0.0
    sends: list[tuple[float, Send]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    error: ClientError | None = None

    def __post_init__(self) -> None:
        core = Core(self.timeout, self.policy, lambda: self.now, lambda: self.draw)
        try:
            self._play(core.models())
        except ClientError as error:
            self.error = error

    def _play(self, steps: Steps[Any]) -> None:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration:
                return
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now += step.seconds
                reply = None
                continue
            self.sends.append((self.now, step))
            took, reply = self.script[min(len(self.sends), len(self.script)) - 1]
            self.now += min(took, step.seconds)
            if took >= step.seconds:
                reply = TimeoutError()


def answer(status: int, retry_after: int | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return httpx.Response(status, headers=headers, json={"models": []}, request=httpx.Request("GET", "http://s/models"))


FINAL = [200, 204, 302, 400, 401, 404, 413, 415, 422, 500, 502, 504]
BROKEN: list[Callable[[str], httpx.TransportError]] = [
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
]
REPLIES: st.SearchStrategy[Reply] = st.one_of(
    st.builds(answer, st.sampled_from([429, 503, *FINAL]), st.none() | st.integers(0, 30)),
    st.builds(lambda kind: kind("broken"), st.sampled_from(BROKEN)),
)
SCRIPTS = st.lists(st.tuples(st.floats(0, 20), REPLIES), min_size=1, max_size=8)


@given(st.floats(0.01, 100), POLICIES, SCRIPTS, DRAWS)
def test_no_request_outlasts_its_deadline_or_the_policy(
    timeout: float, policy: RetryPolicy, script: list[tuple[float, Reply]], draw: float
) -> None:
    played = Played(timeout, policy, script, draw)
    assert played.now <= timeout * (1 + 1e-12)
    assert 1 <= len(played.sends) <= policy.most + 1
    assert len(played.pauses) == len(played.sends) - 1
    for at, send in played.sends:
        assert send.seconds == timeout - at
        assert 1 <= int(send.headers["X-Request-Timeout-Ms"]) <= send.seconds * 1000
    assert len({send.headers["X-Request-ID"] for _, send in played.sends}) == 1
    for (_, reply), pause in zip(script, played.pauses, strict=False):
        assert isinstance(reply, httpx.TransportError) or (
            reply.status_code in (429, 503) and pause >= float(reply.headers.get("retry-after", 0))  # type: ignore[union-attr]
        )


@pytest.mark.parametrize("status", FINAL)
def test_other_answers_are_final(status: int) -> None:
    assert len(Played(100, RetryPolicy(), [(0, answer(status))]).sends) == 1


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_connection_is_tried_again(kind: Callable[[str], httpx.TransportError]) -> None:
    played = Played(100, RetryPolicy(), [(1, kind("broken")), (1, answer(200))])
    assert (len(played.sends), played.error) == (2, None)


@pytest.mark.parametrize("kind", [httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.ProxyError])
def test_what_will_fail_again_is_not(kind: Callable[[str], httpx.TransportError]) -> None:
    played = Played(100, RetryPolicy(), [(0, kind("unfit"))])
    assert (len(played.sends), type(played.error).__name__) == (1, "ConnectionFailedError")
    assert isinstance(getattr(played.error, "__cause__", None), httpx.TransportError)


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    played = Played(30, RetryPolicy(), [(0, answer(429, 29)), (0, answer(429, 5))], draw=0)
    assert isinstance(played.error, OverloadedError)
    assert (played.now, played.error.retry_after) == (29, 5)


def test_an_answer_that_comes_too_late_is_not_waited_for() -> None:
    played = Played(30, RetryPolicy(), [(10, answer(503)), (30, answer(200))])
    assert isinstance(played.error, DeadlinePassedError)
    assert (played.now, played.error.status, played.error.detail) == (30, 504, "there is no answer after 30 s")
    assert played.error.request_id == played.sends[0][1].headers["X-Request-ID"]


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan])
def test_a_timeout_that_is_no_time_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        Played(timeout, RetryPolicy(), [(0, answer(200))])
