"""What is sent, and what becomes of the answer: all of the client but the sending. No I/O here.

A request is a generator of steps. Whoever runs it does what each step says, sending or pausing, and gives it the
outcome; it ends with the answer, or raises. `Client` and `AsyncClient` differ only in how they run it.
"""

from __future__ import annotations

import itertools
import math
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from pcdm_client.answers import ImageScore, ModelInfo, ModelList, ScoreAnswer
from pcdm_client.errors import (
    ClientError,
    ConnectionFailedError,
    DeadlinePassedError,
    NotReadyError,
    TooLargeError,
    UnexpectedAnswerError,
    problem_error,
)
from pcdm_client.images import Part, packs
from pcdm_client.retry import RetryPolicy

__all__ = ["Core", "Options", "Pause", "Reply", "Send", "Steps"]

_A = TypeVar("_A")

# So long does a host that is there not take; a longer deadline allows for other attempts.
_CONNECT_SECONDS: Final = 10.0
# Less than this is no time that can be asked for.
_SHORTEST: Final = 0.001
# Below the service's own limit (256 MiB unless it is set otherwise): the refusal of a large body may be lost, as the
# connection ends while it is being sent.
_REQUEST_BYTES: Final = 64 * 1024 * 1024
_NEVER_AGAIN: Final = RetryPolicy(most=0)


@dataclass(frozen=True)
class _Call(Generic[_A]):
    """A request, and how its answer is read from JSON."""

    method: str
    path: str
    read: Callable[[Any], _A]
    query: Mapping[str, str] = field(default_factory=dict)
    parts: Sequence[Part] = ()


@dataclass(frozen=True)
class Send:
    """To be sent; the outcome is the response, or what prevented it.

    Attributes:
        call: What to ask.
        headers: Of this attempt.
        seconds: After which the outcome is a `TimeoutError`, whatever is still going on.
    """

    call: _Call[Any]
    headers: Mapping[str, str]
    seconds: float

    def request(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request, for a client that knows the service's URL."""
        return client.build_request(
            self.call.method,
            self.call.path,
            params=dict(self.call.query) or None,
            files=[("files", (part.name, part.data)) for part in self.call.parts] or None,
            headers=dict(self.headers),
            timeout=httpx.Timeout(self.seconds, connect=min(self.seconds, _CONNECT_SECONDS)),
        )


@dataclass(frozen=True)
class Pause:
    """Nothing to be done for so many seconds; the outcome is None."""

    seconds: float


Reply: TypeAlias = httpx.Response | httpx.TransportError | TimeoutError | None
"""The outcome of a step."""

Steps: TypeAlias = Generator[Send | Pause, Reply, _A]
"""A request under way."""


@dataclass(frozen=True)
class Options:
    """How images are to be scored.

    Attributes:
        fidelity: How carefully the likelihood is computed.
        detector: Name of the one that judges; None for the model's default.
        strict: Whether an image that is not of the model's own size is refused.
        model: Name of the model; None for the service's default.
        timeout: Seconds for each request, with all its repetitions; None for the client's own.
    """

    fidelity: str = "fast"
    detector: str | None = None
    strict: bool = False
    model: str | None = None
    timeout: float | None = None

    @property
    def query(self) -> dict[str, str]:
        """As the service reads it."""
        strict = {"strict": "true"} if self.strict else {}
        named = {"detector": self.detector, "model": self.model}
        return {"fidelity": self.fidelity} | strict | {key: name for key, name in named.items() if name is not None}


@dataclass(frozen=True)
class Core:
    """The requests of one client.

    Attributes:
        timeout: Seconds for a request, with all its repetitions and the waits between them.
        policy: Whether and when to repeat.
        clock: Seconds, never going back.
        draw: Even random numbers in [0, 1).

    Raises:
        ValueError: `timeout` is no length of time.
    """

    timeout: float
    policy: RetryPolicy
    clock: Callable[[], float]
    draw: Callable[[], float]

    def __post_init__(self) -> None:
        _check_timeout(self.timeout)

    def score(self, parts: Sequence[Part], options: Options) -> Steps[ScoreAnswer]:
        """Score images, in one request."""
        call = _Call("POST", "score", ScoreAnswer.model_validate, options.query, parts)
        answer = yield from self._ask(call, options.timeout)
        if len(answer.results) != len(parts):
            raise UnexpectedAnswerError(f"{len(answer.results)} scores were answered for {len(parts)} images")
        return answer

    def score_all(self, parts: Sequence[Part], options: Options) -> Steps[list[ImageScore]]:
        """Score images, in as few requests as their size and the service allow, one after the other."""
        scores: list[ImageScore] = []
        for pack in packs(parts, _REQUEST_BYTES):
            scores += yield from self._score_or_halve(pack, options)
        return scores

    def models(self, timeout: float | None = None) -> Steps[ModelList]:
        """What models there are."""
        return self._ask(_Call("GET", "models", ModelList.model_validate), timeout)

    def model(self, name: str, timeout: float | None = None) -> Steps[ModelInfo]:
        """What is known of one model."""
        return self._ask(_Call("GET", f"models/{quote(name, safe='')}", ModelInfo.model_validate), timeout)

    def probe(self, path: str, timeout: float | None = None) -> Steps[bool]:
        """Whether there is a good answer now."""
        try:
            yield from self._ask(_Call("GET", path, bool), timeout, _NEVER_AGAIN)
        except (NotReadyError, ConnectionFailedError, DeadlinePassedError):
            return False
        return True

    def _score_or_halve(self, parts: Sequence[Part], options: Options) -> Steps[list[ImageScore]]:
        try:
            answer = yield from self.score(parts, options)
        except TooLargeError:
            if len(parts) == 1:
                raise
        else:
            return list(answer.results)
        middle = len(parts) // 2
        first = yield from self._score_or_halve(parts[:middle], options)
        return first + (yield from self._score_or_halve(parts[middle:], options))

    def _ask(self, call: _Call[_A], timeout: float | None, policy: RetryPolicy | None = None) -> Steps[_A]:
        """Ask until there is an answer, no hope, or no time."""
        seconds = self.timeout if timeout is None else _check_timeout(timeout)
        policy = self.policy if policy is None else policy
        deadline = self.clock() + seconds
        request_id = uuid.uuid4().hex  # the same for all attempts: the service's log shows them together
        failure: ClientError | None = None
        for repetitions in itertools.count():
            left = deadline - self.clock()
            if left < _SHORTEST:
                raise DeadlinePassedError.of_this_client(seconds, request_id) from failure
            headers = {"X-Request-ID": request_id, "X-Request-Timeout-Ms": str(math.floor(left * 1000))}
            reply = yield Send(call, headers, left)
            if isinstance(reply, httpx.Response) and reply.status_code < 400:
                return _read(call, reply)
            left = deadline - self.clock()
            if isinstance(reply, httpx.Response):
                failure = problem_error(reply, request_id)
            elif isinstance(reply, httpx.TransportError) and left >= _SHORTEST:
                failure = ConnectionFailedError(reply)
            else:
                raise DeadlinePassedError.of_this_client(seconds, request_id) from reply
            wait = policy.wait(repetitions, self.draw(), failure.retry_after) if failure.passing else None
            # What went wrong is told at once, where all that is left would be spent on waiting.
            if wait is None or wait >= left:
                raise failure
            yield Pause(wait)
        raise AssertionError("unreachable")


def _read(call: _Call[_A], response: httpx.Response) -> _A:
    try:
        if not response.is_success:
            raise ValueError("it has no content of its own")
        return call.read(response.json())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        misfit = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        cause: ValueError = error
    except ValueError as error:
        misfit, cause = str(error), error
    told = f"{call.method} {response.url}: the answer (status {response.status_code}) is not this service's: {misfit}"
    raise UnexpectedAnswerError(told) from cause


def _check_timeout(seconds: float) -> float:
    if not _SHORTEST <= seconds < math.inf:
        raise ValueError(f"timeout must be a number of seconds, {_SHORTEST} or more, not {seconds}")
    return seconds
