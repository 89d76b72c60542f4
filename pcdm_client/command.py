"""The command `pcdm-client`, the one part of the client that needs typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pcdm_client.client import Client
from pcdm_client.errors import ClientError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    """Ask a running service."""


@app.command()
def score(
    url: Annotated[str, typer.Argument(help="Where the service is, such as http://127.0.0.1:8000.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Images.")],
    fidelity: Annotated[str, typer.Option(help="How carefully the likelihood is computed.")] = "fast",
    detector: Annotated[
        str | None, typer.Option(help="Name of the detector that judges; left out, the model's default.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Refuse images that are not of the model's own size.")] = False,
    model: Annotated[str | None, typer.Option(help="Name of the model; left out, the service's default.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar="PCDM_API_KEY", help="Key of the service.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each request, with its repetitions.")] = 300.0,
) -> None:
    """Score images: one line of JSON for each, in their order."""
    try:
        with Client(url, api_key=api_key, timeout=timeout) as client:
            for one in client.score_many(files, fidelity=fidelity, detector=detector, strict=strict, model=model):
                typer.echo(one.model_dump_json())
    except (ClientError, OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
