"""The client for programs that do other things meanwhile."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

import httpx

from pcdm_client.answers import ImageScore, ModelInfo, ModelList, ScoreAnswer
from pcdm_client.core import Core, Options, Reply, Send, Steps
from pcdm_client.images import Image, blocks, encode_all, listed
from pcdm_client.retry import DEFAULT_RETRIES, RetryPolicy

__all__ = ["AsyncClient"]

_A = TypeVar("_A")


class AsyncClient:
    """As `Client`, for asyncio: every method is awaited, and `score_many` has several requests under way.

    Args:
        base_url: As for `Client`.
        api_key: As for `Client`.
        timeout: As for `Client`.
        retries: As for `Client`.
        transport: As for `Client`, but one of httpx's asynchronous transports.
        clock: As for `Client`.
        sleep: Waits for so many seconds.
        draw: As for `Client`.

    Raises:
        ValueError: `timeout` is no length of time.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with AsyncClient("http://127.0.0.1:8000") as client:
        ...         return [one.source async for one in client.score_many(["tests/data/samples/svhn.png"])]
        >>> asyncio.run(main())
        ['svhn.png']
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 300.0,
        retries: RetryPolicy = DEFAULT_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._core = Core(timeout, retries, clock, draw)
        self._sleep = sleep
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, transport=transport)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def score(
        self,
        images: Image | Iterable[Image],
        *,
        fidelity: str = "fast",
        detector: str | None = None,
        strict: bool = False,
        model: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of all attempts, and told to the service
    ) -> ScoreAnswer:
        """Score images, in one request; see `Client.score`."""
        options = Options(fidelity=fidelity, detector=detector, strict=strict, model=model, timeout=timeout)
        parts = await asyncio.to_thread(encode_all, listed(images))
        return await self._run(self._core.score(parts, options))

    async def score_many(
        self,
        images: Iterable[Image],
        *,
        batch_size: int = 64,
        concurrency: int = 4,
        fidelity: str = "fast",
        detector: str | None = None,
        strict: bool = False,
        model: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of all attempts, and told to the service
    ) -> AsyncGenerator[ImageScore, None]:
        """Score any number of images, with several requests under way.

        See `Client.score_many`. Whoever stops before the end should close the iterator (`contextlib.aclosing`), which
        ends the requests that are under way.

        Args:
            images: As for `Client.score`; taken as they are needed.
            batch_size: Most images in one request.
            concurrency: Most requests under way, answered ones included until their turn comes; so many requests'
                images are held.
            fidelity: As for `Client.score`.
            detector: As for `Client.score`.
            strict: As for `Client.score`.
            model: As for `Client.score`.
            timeout: Seconds for each request.

        Yields:
            The score of each image, in the order of the images, whichever request is answered first.

        Raises:
            ClientError, TypeError, ValueError, ImportError, OSError: As for `Client.score_many`.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1 request, not {concurrency}")
        options = Options(fidelity=fidelity, detector=detector, strict=strict, model=model, timeout=timeout)
        under_way: deque[asyncio.Task[list[ImageScore]]] = deque()
        done = 0
        try:
            for block in blocks(images, batch_size):
                under_way.append(asyncio.create_task(self._score_block(block, done, options)))
                done += len(block)
                if len(under_way) == concurrency:
                    for one in await under_way[0]:
                        yield one
                    under_way.popleft()
            while under_way:
                for one in await under_way[0]:
                    yield one
                under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def models(self, *, timeout: float | None = None) -> ModelList:  # noqa: ASYNC109
        """What models the service has."""
        return await self._run(self._core.models(timeout))

    async def model(self, name: str, *, timeout: float | None = None) -> ModelInfo:  # noqa: ASYNC109
        """What the service says of one model; see `Client.model`."""
        return await self._run(self._core.model(name, timeout))

    async def ready(self, *, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Whether images would be scored now; False if the service cannot be reached."""
        return await self._run(self._core.probe("readyz", timeout))

    async def healthy(self, *, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Whether the service is alive, be it ready or not."""
        return await self._run(self._core.probe("healthz", timeout))

    async def _score_block(self, block: list[Image], first: int, options: Options) -> list[ImageScore]:
        parts = await asyncio.to_thread(encode_all, block, first=first)
        return await self._run(self._core.score_all(parts, options))

    async def _run(self, steps: Steps[_A]) -> _A:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as done:
                answer: _A = done.value
                return answer
            if isinstance(step, Send):
                reply = await self._send(step)
            else:
                await self._sleep(step.seconds)
                reply = None

    async def _send(self, step: Send) -> Reply:
        """Send, and wait no longer than the step says: the limits of httpx are for each single read and write."""
        try:
            async with asyncio.timeout(step.seconds):
                return await self._http.send(step.request(self._http))
        except (TimeoutError, httpx.TransportError) as error:
            return error
