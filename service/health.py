"""Health and metrics on a port of their own."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from pcdm_core.listening import listen
from service.engine import Engine
from service.http_protocol import SERVER_OPTIONS
from service.middleware import RequestIdMiddleware, SecurityHeadersMiddleware
from service.problems import install_problem_handlers
from service.routes import health_router, metrics_router
from service.telemetry import NO_TELEMETRY

__all__ = ["HealthServer"]

_log: Final = logging.getLogger(__name__)


class HealthServer:
    """The routes of health and metrics on a port of their own, from the start of the application to its end.

    Args:
        engine: Whose health it is.
        registry: Whose metrics they are.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.

    Attributes:
        port: That one, from `bind` on the one that was taken.
    """

    def __init__(self, engine: Engine, registry: CollectorRegistry, host: str, port: int) -> None:
        self._app = FastAPI(openapi_url=None, redirect_slashes=False, telemetry=NO_TELEMETRY)
        self._app.include_router(health_router(engine))
        self._app.include_router(metrics_router(registry))
        self._app.add_middleware(SecurityHeadersMiddleware)
        self._app.add_middleware(RequestIdMiddleware)
        install_problem_handlers(self._app)
        self._host = host
        self.port = port
        self._listener: socket.socket | None = None

    def bind(self) -> None:
        """Take the port, if it has not been taken yet.

        Raises:
            OSError: It is in use, or not to be had; says what to do.
        """
        if self._listener is None:
            self._listener = listen(self._host, self.port, "another PCDM_METRICS_PORT")
            self.port = self._listener.getsockname()[1]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Answer, beside whatever serves the application.

        Raises:
            OSError: As `bind`.
        """
        self.bind()
        assert self._listener is not None
        # A second at most for who is being answered; whoever only keeps a connection open is cut off at once.
        config = uvicorn.Config(
            self._app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1, **SERVER_OPTIONS
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve([self._listener]))
        self._listener = None
        _log.info("health and metrics are on port %d", self.port)
        try:
            yield
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """Leaves signals to the server of the application."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
