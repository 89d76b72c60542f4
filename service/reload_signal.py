"""SIGHUP, by which whoever runs the server tells it to read its models anew."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["reload_on_signal"]


@contextlib.asynccontextmanager
async def reload_on_signal(reload: Callable[[], Awaitable[None]], *, enabled: bool) -> AsyncIterator[None]:
    """Call `reload` at every SIGHUP meanwhile; without it, that ends the server, as when its terminal closes.

    Only the main thread of a process may listen to signals: a server in another one hears none.
    """
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Future[None]] = set()

    def begin() -> None:
        task = asyncio.ensure_future(reload())
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
