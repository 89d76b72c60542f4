"""`pcdm serve`."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer
import uvicorn

from pcdm_core.cli.console import DEFAULT_MODEL, ModelOption, errors

__all__ = ["serve"]


def serve(
    model: ModelOption = DEFAULT_MODEL,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
) -> None:
    """Answer POST /score over HTTP."""
    with errors():
        # By name: the core knows nothing of HTTP, and must load where the service is not installed.
        service = importlib.import_module("service")
        uvicorn.run(service.create_app(service.Settings(model=model)), host=host, port=port)
