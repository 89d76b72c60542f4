"""The process of a server: what it says, how it shares the machine with its workers, and how it ends."""

import asyncio
import contextlib
import gc
import logging
import logging.config
import math
import socket
from typing import Final

import uvicorn

from service.app import create_app
from service.engine import Engine
from service.http_protocol import SERVER_OPTIONS
from service.logs import log_config
from service.served_model import Load, load_for_verdicts
from service.settings import Settings
from service.worker_link import give_way

__all__ = ["run"]

_log: Final = logging.getLogger(__name__)
# Seconds for which a server that stops waits longer than any request may take, until it is answered.
_LAST_WORDS: Final = 5
# Garbage is looked for by the clock: what is answered leaves none, as the tests say, and to look whenever there are 700
# new objects, as Python would, is to look several times in each request. What fails may leave some; a model that is
# replaced does.
_COLLECT_TICKS: Final = 600  # of 0.1 s
_COLLECT_AFTER: Final = 50_000  # objects, if so many come before


class _Server(uvicorn.Server):
    """Ends when no model can be loaded, looks for garbage, and lets requests finish before it stops to listen."""

    def __init__(self, config: uvicorn.Config, engine: Engine) -> None:
        super().__init__(config)
        self._engine = engine

    async def on_tick(self, counter: int) -> bool:
        if counter % _COLLECT_TICKS == 0:
            gc.collect()
        # A server that can never be ready is of no use: better ended, and seen to be.
        return await super().on_tick(counter) or self._engine.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Meanwhile new requests are told that the service is stopping, so a balancer can send them elsewhere.
        draining = asyncio.ensure_future(self._engine.drain())
        while not draining.done() and not self.force_exit:
            await asyncio.wait([draining], timeout=0.1)
        draining.cancel()
        await super().shutdown(sockets)


def run(settings: Settings, listener: socket.socket, *, load: Load = load_for_verdicts) -> None:
    """Serve until told to stop; the process is of use for nothing else then.

    Args:
        settings: What the deployment chose.
        listener: On which to answer.
        load: Turns a model's folder into a scorer.

    Raises:
        OSError: The port for metrics and health is in use, or the file of API keys cannot be read.
        ValueError: No model can be loaded, or two have the same name, or the API keys are malformed.
    """
    logging.config.dictConfig(log_config(settings.log_format))
    app = create_app(settings, load=load)
    if app.state.health is not None:
        app.state.health.bind()
    # Whoever has no answer by then gets none: what is left is clients that do not read theirs.
    longest = math.ceil(settings.request_timeout_ms / 1000) + _LAST_WORDS
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=longest, **SERVER_OPTIONS)
    engine: Engine = app.state.engine
    server = _Server(config, engine)
    # The server itself keeps silent about a socket that it was handed.
    _log.info("listening on %s, loading the model in %s", _url(listener), settings.models or settings.model)
    # What is imported stays. To look through all of it for garbage, every ten seconds under load, took 0.16 s, in which
    # no request was answered and the worker got no batch.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    give_way(settings.niceness)
    with contextlib.suppress(KeyboardInterrupt):  # by which it has been told to stop, and has stopped
        server.run(sockets=[listener])
    if engine.failure is not None:
        raise engine.failure  # the last line on the screen, below what the server had to say


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
