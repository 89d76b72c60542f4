"""`pcdm score`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from pcdm_core.cli.console import (
    DEFAULT_DEVICE,
    DEFAULT_MODEL,
    DeviceOption,
    JsonOption,
    LimitOption,
    ModelOption,
    errors,
    print_json,
    progress,
    stdout,
)
from pcdm_core.data import ImageSource, open_images, prepared_blocks
from pcdm_core.model import pick_device
from pcdm_core.scoring import CascadeScorer, Fidelity, FidelityName, named_detector, named_fidelity

__all__ = ["score"]


def score(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Images, folders, parquet or npz files.")],
    model: ModelOption = DEFAULT_MODEL,
    limit: LimitOption = None,
    strict: Annotated[bool, typer.Option(help="Refuse images of another size instead of resizing them.")] = False,
    fidelity: Annotated[
        FidelityName, typer.Option(help="How carefully the likelihood is computed; the verdict is the same at all.")
    ] = "fast",
    detector: Annotated[
        str | None, typer.Option(help="The one that judges, of those that the model is calibrated with.")
    ] = None,
    device: DeviceOption = DEFAULT_DEVICE,
    json: JsonOption = False,
) -> None:
    """Out-of-distribution score, p-value and bits/dim of images."""
    with errors():
        scorer = CascadeScorer.from_pretrained(model, device=pick_device(device))
        if scorer.calibration is None:
            raise ValueError(f"{model} has no calibration.json: make one with pcdm calibrate {model} --fit DATA")
        if detector is not None:
            scorer = named_detector(scorer.detectors, detector, model=scorer.model_name)
        chosen = named_fidelity(scorer.fidelities, fidelity, model=scorer.model_name)
        # All are opened first: a mistyped path is told before the others have taken their time.
        sources = [open_images(path, limit=limit) for path in paths]
        results: list[dict[str, Any]] = []
        for path, source in zip(paths, sources, strict=True):
            with progress(f"scoring {path}", len(source)) as update:
                results += _score_source(scorer, source, chosen, strict=strict, update=update)
        if json:
            document: dict[str, Any] = {"model": scorer.model_name, "digest": scorer.digest}
            document |= {"fidelity": {"name": fidelity, **chosen.settings()}, "detector": scorer.detector}
            print_json(document | {"alpha": scorer.alpha, "results": results})
            return
        table = Table(
            title=f"{scorer.model_name}: flagged by {scorer.detector} at p <= {scorer.alpha}, bits/dim {fidelity}"
        )
        table.add_column("source", overflow="fold")
        for column in ("score", "p-value", "bits/dim", "verdict"):
            table.add_column(column, justify="right")
        for row in results:
            verdict = "[red]out of distribution[/]" if row["is_ood"] else "normal"
            numbers = (f"{row['score']:.3f}", f"{row['p_value']:.4f}", f"{row['bits_per_dim']:.3f}")
            table.add_row(row["source"], *numbers, verdict + (" (resized)" if row["resized"] else ""))
        stdout.print(table)


def _score_source(
    scorer: CascadeScorer, source: ImageSource, fidelity: Fidelity, *, strict: bool, update: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """Read and score one batch at a time, so that memory does not grow with the number of photographs."""
    done = 0
    for names, prepared in prepared_blocks(source, scorer.preprocessing, scorer.batch_size, strict=strict):
        scores = scorer.score(np.stack([image.pixels for image in prepared]), fidelity)
        for name, image, one in zip(names, prepared, scores, strict=True):
            yield {
                "source": name,
                "score": one.score,
                "p_value": one.p_value,
                "is_ood": one.is_ood,
                "bits_per_dim": one.bits_per_dim,
                "terms": one.terms,
                "errors": {"noise": one.stderr, "time": one.time_error},
                "network_calls": one.network_calls,
                "original_size": list(image.original_size),
                "resized": image.resized,
            }
        done += len(names)
        update(done)
