"""The client for programs that wait."""

from __future__ import annotations

import contextvars
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import httpx

from pcdm_client.answers import ImageScore, ModelInfo, ModelList, ScoreAnswer
from pcdm_client.core import Core, Options, Reply, Send, Steps
from pcdm_client.images import Image, blocks, encode_all, listed
from pcdm_client.retry import DEFAULT_RETRIES, RetryPolicy

__all__ = ["Client"]

_A = TypeVar("_A")


class Client:
    """A client of the service, to be used as a context manager or to be closed.

    Every request is repeated by `retries` when the service is overloaded or not ready, or when the connection
    fails: none of them does harm when it is repeated, as the same image at the same settings gets the same score. All
    attempts together, and the waits between them, take no longer than `timeout`. It may be shared by threads.

    Args:
        base_url: Where the service is; a path in it stays in front of all routes.
        api_key: Sent as `Authorization: Bearer`.
        timeout: Seconds for each request. The service is told how many of them are left, and drops what it cannot
            finish in time.
        retries: Whether and when a request is repeated.
        transport: How httpx sends; left out, over the network, by the proxies that the environment names.
        clock: Seconds, never going back.
        sleep: Waits for so many seconds.
        draw: Even random numbers in [0, 1).

    Raises:
        ValueError: `timeout` is no length of time.

    Example:
        >>> with Client("http://127.0.0.1:8000") as client:
        ...     answer = client.score("tests/data/samples/svhn.png")
        >>> [one.source for one in answer.results]
        ['svhn.png']
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 300.0,
        retries: RetryPolicy = DEFAULT_RETRIES,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._core = Core(timeout, retries, clock, draw)
        self._sleep = sleep
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=base_url, headers=headers, transport=transport)

    def __enter__(self) -> Self:
        self._http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.__exit__(kind, error, traceback)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def score(
        self,
        images: Image | Iterable[Image],
        *,
        fidelity: str = "fast",
        detector: str | None = None,
        strict: bool = False,
        model: str | None = None,
        timeout: float | None = None,
    ) -> ScoreAnswer:
        """Score images, in one request.

        Args:
            images: One or several: paths, bytes, binary files, Pillow images, numpy arrays of uint8, `[H, W]` or
                `[H, W, C]`. Pixels are sent as PNG.
            fidelity: How carefully the likelihood is computed; the verdict is the same at all.
            detector: Name of the one that judges; None for the model's default.
            strict: Refuse an image that is not of the model's own size.
            model: Name of the model; None for the service's default.
            timeout: Seconds, with all repetitions; None for the client's own.

        Returns:
            The scores, in the order of the images.

        Raises:
            ProblemError: The service answered with an error; see its subclasses.
            ConnectionFailedError: It could not be reached.
            UnexpectedAnswerError: Its answer could not be understood.
            TypeError, ValueError, ImportError, OSError: An image cannot be sent.
        """
        options = Options(fidelity=fidelity, detector=detector, strict=strict, model=model, timeout=timeout)
        return self._run(self._core.score(encode_all(listed(images)), options))

    def score_many(
        self,
        images: Iterable[Image],
        *,
        batch_size: int = 64,
        fidelity: str = "fast",
        detector: str | None = None,
        strict: bool = False,
        model: str | None = None,
        timeout: float | None = None,
    ) -> Iterator[ImageScore]:
        """Score any number of images, one request after the other, holding no more than one request's of them.

        A request that is too large for the service is halved until it is not.

        Args:
            images: As for `score`; taken as they are needed.
            batch_size: Most images in one request.
            fidelity: As for `score`.
            detector: As for `score`.
            strict: As for `score`.
            model: As for `score`.
            timeout: Seconds for each request.

        Yields:
            The score of each image, in the order of the images.

        Raises:
            ClientError, TypeError, ValueError, ImportError, OSError: As for `score`, when the turn comes of the request
                that failed. An image without a name is called by its place among all, `images[70]`.
        """
        options = Options(fidelity=fidelity, detector=detector, strict=strict, model=model, timeout=timeout)
        done = 0
        for block in blocks(images, batch_size):
            yield from self._run(self._core.score_all(encode_all(block, first=done), options))
            done += len(block)

    def models(self, *, timeout: float | None = None) -> ModelList:
        """What models the service has."""
        return self._run(self._core.models(timeout))

    def model(self, name: str, *, timeout: float | None = None) -> ModelInfo:
        """What the service says of one model.

        Raises:
            NotFoundError: It has no such model.
        """
        return self._run(self._core.model(name, timeout))

    def ready(self, *, timeout: float | None = None) -> bool:
        """Whether images would be scored now; False if the service cannot be reached."""
        return self._run(self._core.probe("readyz", timeout))

    def healthy(self, *, timeout: float | None = None) -> bool:
        """Whether the service is alive, be it ready or not."""
        return self._run(self._core.probe("healthz", timeout))

    def _run(self, steps: Steps[_A]) -> _A:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as done:
                answer: _A = done.value
                return answer
            if isinstance(step, Send):
                reply = self._send(step)
            else:
                self._sleep(step.seconds)
                reply = None

    def _send(self, step: Send) -> Reply:
        """Send from a thread of its own, and wait no longer than the step says.

        The limits of httpx are for each single read and write, so a server that sends a byte now and then could
        otherwise hold us for ever.
        """
        outcome: queue.SimpleQueue[httpx.Response | Exception] = queue.SimpleQueue()

        def attempt() -> None:
            try:
                outcome.put(self._http.send(step.request(self._http)))
            except Exception as error:
                outcome.put(error)

        threading.Thread(target=contextvars.copy_context().run, args=(attempt,), daemon=True).start()
        try:
            reply = outcome.get(timeout=min(step.seconds, threading.TIMEOUT_MAX))
        except queue.Empty:
            return TimeoutError("the time is over")
        if isinstance(reply, httpx.Response | httpx.TransportError):
            return reply
        raise reply
