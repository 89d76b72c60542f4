"""`pcdm key`."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from pcdm_core.cli.console import JsonOption, errors, print_json

__all__ = ["key"]


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits and . _ -, for the server's log.")],
    as_json: JsonOption = False,
) -> None:
    """Make a random API key: the key for whoever calls, and the line that lets a server know it again."""
    with errors():
        # By name: the core knows nothing of HTTP, and must load where the service is not installed.
        keys = importlib.import_module("service.keys")
        made: str = keys.new_key()
        entry: str = keys.entry_of(name, made)
    if as_json:
        print_json({"name": name, "key": made, "entry": entry})
        return
    typer.echo(f"key, to be kept secret and shown this once: {made}")
    typer.echo(f"line for PCDM_API_KEYS or the file of PCDM_API_KEYS_FILE: {entry}")
