"""What the benchmarks' command lines and reports share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pcdm_core.files import write_atomically

__all__ = ["load", "measure_or_report", "save", "table"]


def save(document: dict[str, Any], file: str) -> None:
    """Write what was measured."""
    write_atomically(Path(file), (json.dumps(document, indent=2) + "\n").encode())


def load(file: str) -> dict[str, Any]:
    """What was measured."""
    document: dict[str, Any] = json.loads(Path(file).read_text())
    return document


def measure_or_report(
    usage: str | None, measure: Callable[[Path], dict[str, Any]], report: Callable[[dict[str, Any]], str]
) -> None:
    """``measure MODEL DOCUMENT`` or ``report DOCUMENT PAGE``, of a benchmark without pictures."""
    match sys.argv[1:]:
        case ["measure", model, document]:
            save(measure(Path(model)), document)
        case ["report", document, page]:
            Path(page).write_text(report(load(document)))
        case _:
            raise SystemExit(usage)


def table(rows: Sequence[Sequence[Any]], *, head: Sequence[str] | None = None) -> str:
    """Rows of a Markdown table, with its head where one is given."""
    lines = [*rows] if head is None else [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
