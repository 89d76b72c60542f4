"""`pcdm serve`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import logging.config
import math
import socket
from pathlib import Path
from typing import Annotated, Final, Protocol

import typer
import uvicorn
from pydantic import ValidationError

from pcdm_core.cli.console import DEFAULT_DEVICE, DEFAULT_MODEL, DeviceOption, ModelOption, errors
from pcdm_core.complaints import complaints
from pcdm_core.listening import listen

__all__ = ["serve"]

_log: Final = logging.getLogger(__name__)


class _Engine(Protocol):
    """The part of `service.engine.Engine` that ends a server."""

    @property
    def failure(self) -> Exception | None: ...

    async def drain(self) -> None: ...


# Seconds for which a server that stops waits longer than any request may take, until it is answered.
_LAST_WORDS: Final = 5


class _Server(uvicorn.Server):
    """Ends when no model can be loaded, and lets requests under way finish before it stops to listen."""

    def __init__(self, config: uvicorn.Config, engine: _Engine) -> None:
        super().__init__(config)
        self._engine = engine

    async def on_tick(self, counter: int) -> bool:
        # A server that can never be ready is of no use: better ended, and seen to be.
        return await super().on_tick(counter) or self._engine.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Meanwhile new requests are told that the service is stopping, so a balancer can send them elsewhere.
        draining = asyncio.ensure_future(self._engine.drain())
        while not draining.done() and not self.force_exit:
            await asyncio.wait([draining], timeout=0.1)
        draining.cancel()
        await super().shutdown(sockets)


def serve(
    context: typer.Context,
    model: ModelOption = DEFAULT_MODEL,
    models: Annotated[
        str,
        typer.Option(
            envvar="PCDM_MODELS",
            help="Several models instead: comma-separated folders, name=folder, or a folder with one folder a model.",
        ),
    ] = "",
    host: Annotated[str, typer.Option(envvar="PCDM_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, envvar="PCDM_PORT", help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    device: DeviceOption = DEFAULT_DEVICE,
) -> None:
    """Answer POST /score over HTTP; end with status 2 if the port is in use or no model can be loaded."""
    with errors():
        if _typed(context, "model"):
            if _typed(context, "models"):
                raise ValueError("--model and --models: choose one")
            models = ""  # of the environment, which gives way to the command line
        with listen(host, port, "another --port or --host") as listener:
            _run(listener, model, models, device)


def _typed(context: typer.Context, option: str) -> bool:
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _run(listener: socket.socket, model: Path, models: str, device: str) -> None:
    """Serve until told to stop.

    Raises:
        ValueError: A setting is out of its range, or no model can be loaded.
        OSError: The port for metrics and health is in use.
    """
    # By name: the core knows nothing of HTTP, and must load where the service is not installed.
    service = importlib.import_module("service")
    host, port = listener.getsockname()[:2]
    try:
        settings = service.Settings(model=model, models=models, host=host, port=port, device=device)
    except ValidationError as error:
        raise ValueError(complaints(error, called=lambda name: f"PCDM_{name.upper()}")) from error
    logging.config.dictConfig(importlib.import_module("service.logs").log_config(settings.log_format))
    app = service.create_app(settings)
    if app.state.health is not None:
        app.state.health.bind()
    options = importlib.import_module("service.http_protocol").SERVER_OPTIONS
    # Whoever has no answer by then gets none: what is left is clients that do not read theirs.
    longest = math.ceil(settings.request_timeout_ms / 1000) + _LAST_WORDS
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=longest, **options)
    server = _Server(config, app.state.engine)
    # The server itself keeps silent about a socket that it was handed.
    _log.info("listening on %s, loading the model in %s", _url(host, port), models or model)
    # What is imported stays. To look through all of it for garbage, every ten seconds under load, took 0.16 s, in which
    # no request was answered and the worker got no batch.
    gc.collect()
    gc.freeze()
    importlib.import_module("service.worker_link").give_way(settings.niceness)
    with contextlib.suppress(KeyboardInterrupt):  # by which it has been told to stop, and has stopped
        server.run(sockets=[listener])
    if app.state.engine.failure is not None:
        raise app.state.engine.failure  # the last line on the screen, below what the server had to say


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
