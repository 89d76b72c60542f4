"""`pcdm serve`."""

from __future__ import annotations

import importlib
import socket
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from pcdm_core.cli.console import DEFAULT_DEVICE, DEFAULT_MODEL, DeviceOption, ModelOption, errors
from pcdm_core.complaints import complaints
from pcdm_core.listening import listen

__all__ = ["serve"]


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
    importlib.import_module("service.server").run(settings, listener)
