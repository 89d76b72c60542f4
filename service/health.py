"""Routes for those who watch the server: alive, ready, and its metrics; where asked for, on a port of their own."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from service.engine import Engine
from service.http_protocol import SERVER_OPTIONS
from service.middleware import RequestIdMiddleware, SecurityHeadersMiddleware
from service.problems import install_problem_handlers
from service.schemas import Health, problem_responses

__all__ = ["HealthServer", "health_router", "metrics_router"]

_log: Final = logging.getLogger(__name__)


def health_router(engine: Engine) -> APIRouter:
    """Whether the server is alive, and whether it is ready."""
    router = APIRouter()

    @router.get("/healthz", summary="Whether the server is alive")
    async def healthz() -> Health:
        return Health()

    @router.get(
        "/readyz",
        summary="Whether requests would be answered, of every model",
        responses=problem_responses(
            status_503="A model is not loaded, its worker is being started, or the server is stopping."
        ),
    )
    async def readyz() -> Health:
        engine.require_all()
        return Health()

    return router


def metrics_router(registry: CollectorRegistry) -> APIRouter:
    """The metrics of a registry, in the form that is asked for."""
    router = APIRouter()

    @router.get("/metrics", summary="Metrics, for Prometheus", response_class=PlainTextResponse)
    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": media_type})

    return router


class HealthServer:
    """These routes on a port of their own, from the start of the application to its end.

    Args:
        engine: Whose health it is.
        registry: Whose metrics they are.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.

    Attributes:
        port: That one, from `bind` on the one that was taken.
    """

    def __init__(self, engine: Engine, registry: CollectorRegistry, host: str, port: int) -> None:
        self._app = FastAPI(openapi_url=None, redirect_slashes=False)
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
            try:
                family, *_, address = socket.getaddrinfo(
                    self._host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                )[0]
                self._listener = socket.create_server(address[:2], family=family)
            except OSError as error:
                reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
                place = f"{self._host}:{self.port}"
                raise OSError(f"cannot listen on {place} ({reason}): choose another PCDM_METRICS_PORT") from error
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
