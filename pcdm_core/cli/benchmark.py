"""`pcdm benchmark`."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from pcdm_core.cli.console import LimitOption, errors, progress, stdout
from pcdm_core.data import open_images
from pcdm_core.files import write_atomically
from pcdm_core.scoring import CascadeScorer

__all__ = ["benchmark"]


def benchmark(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    fit: Annotated[str, typer.Option(help="Images like those trained on, which every row is fitted on.")],
    inside: Annotated[str, typer.Option("--in", help="Other images like those trained on.")],
    outside: Annotated[list[str], typer.Option("--out", help="Images unlike those; may be given again.")],
    limit: LimitOption = None,
    classifier: Annotated[
        Path | None, typer.Option(help="Classifier for supervised peers, made by benchmarks/classifier.py.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps scores: a run that was stopped goes on where it was.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Markdown file for the table.")] = None,
    json: Annotated[Path | None, typer.Option(help="JSON file for all figures.")] = None,
    readme: Annotated[
        Path | None, typer.Option(help="File in which the table between its two benchmark markers is renewed.")
    ] = None,
) -> None:
    """Score sets of images with every detector and with its peers: one table, all figures, and what an image costs."""
    with errors():
        # Not at the top: every command would wait for what the peers are made of.
        from pcdm_core.benchmark import Bench, load_classifier, machine, page, readme_block

        _check_files(output, json, readme)
        names = [fit, inside, *outside]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: given twice; --fit, --in and every --out must be different sets")
        # All are opened first: a mistyped path is told before the others have taken their time.
        sources = {name: open_images(name, limit=None if name == fit else limit) for name in names}
        scorer = CascadeScorer.from_pretrained(model)
        bench = Bench(
            scorer,
            classifier=None if classifier is None else load_classifier(classifier),
            cache=cache,
            progress=progress,
        )
        made: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "command": _command(model, fit, inside, outside, limit, classifier),
            "machine": machine(),
        }
        document = {"made": made, **bench.run(sources, fit, inside, outside)}
        written = []
        for file, content in ((json, dumps(document, indent=2) + "\n"), (output, page(document))):
            if file is not None:
                write_atomically(file, content.encode())
                written.append(str(file))
        if readme is not None:
            write_atomically(readme, _renewed(readme, readme_block(document)))
            written.append(str(readme))
        stdout.print(f"wrote {', '.join(written)}" if written else page(document), markup=False, soft_wrap=True)


def _check_files(output: Path | None, json: Path | None, readme: Path | None) -> None:
    """Tell before the work what would keep its results from being written."""
    for file in (output, json):
        if file is not None and not file.parent.is_dir():
            raise FileNotFoundError(f"{file}: no such folder to write to")
    if readme is not None:
        _renewed(readme, "")


def _renewed(readme: Path, block: str) -> bytes:
    from pcdm_core.benchmark import replaced

    try:
        return replaced(readme.read_text(encoding="utf-8"), block).encode()
    except ValueError as error:
        raise ValueError(f"{readme}: {error}") from error


def _command(model: Path, fit: str, inside: str, outside: list[str], limit: int | None, classifier: Path | None) -> str:
    """The command that makes these figures again, without where they are written."""
    words = ["pcdm", "benchmark", str(model), "--fit", fit, "--in", inside]
    words += [word for name in outside for word in ("--out", name)]
    words += [] if limit is None else ["--limit", str(limit)]
    words += [] if classifier is None else ["--classifier", str(classifier)]
    return shlex.join(words)
