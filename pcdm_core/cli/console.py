"""What all commands share: output, progress, and how an error is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pcdm_core.complaints import complaints
from pcdm_core.data import ImageSource, load_array
from pcdm_core.model import DEVICE_NAMES
from pcdm_core.scoring import CascadeScorer, Fidelity, Score

__all__ = [
    "DEFAULT_DEVICE",
    "DEFAULT_MODEL",
    "DeviceOption",
    "JsonOption",
    "LimitOption",
    "ModelOption",
    "errors",
    "images_of",
    "print_json",
    "progress",
    "scores_of",
    "stdout",
]

stdout = Console()
_stderr = Console(stderr=True)

DEFAULT_MODEL = Path("weights/cifar10-haar")
DEFAULT_DEVICE = "auto"

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", envvar="PCDM_DEVICE", help=f"Where the networks run: {DEVICE_NAMES}; auto is CUDA if it is there."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Use only the first images.")]
ModelOption = Annotated[Path, typer.Option("--model", envvar="PCDM_MODEL", help="Model folder.")]


@contextmanager
def errors() -> Iterator[None]:
    """Tell what a user did wrong in one line, without a traceback, and exit with status 2."""
    try:
        yield
    except (ValueError, OSError, ModuleNotFoundError) as error:
        told = complaints(error) if isinstance(error, ValidationError) else error
        _stderr.print(f"error: {told}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on standard output, untouched by the width of the terminal."""
    typer.echo(json.dumps(document, indent=2))


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error; yields a function that takes the running count."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_stderr, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)


def images_of(source: ImageSource, scorer: CascadeScorer, *, name: str) -> NDArray[np.uint8]:
    """All images of a source as the model takes them, ``[N, C, H, W]``."""
    with progress(f"reading {name}", len(source)) as update:
        return load_array(source, scorer.preprocessing, progress=update)


def scores_of(
    scorer: CascadeScorer, images: NDArray[np.uint8], fidelity: Fidelity | None = None, *, name: str
) -> list[Score]:
    """Scores of images, with a progress bar."""
    with progress(f"scoring {name}", len(images)) as update:
        return scorer.score(images, fidelity, progress=update)
