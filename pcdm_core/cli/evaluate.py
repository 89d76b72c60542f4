"""`pcdm evaluate`."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from pcdm_core.cli.console import JsonOption, LimitOption, errors, images_of, print_json, scores_of, stdout
from pcdm_core.data import open_images
from pcdm_core.scoring import CascadeScorer, Fidelity

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    data: Annotated[str, typer.Argument(help="Images: a folder, a parquet or npz file, a data set's name.")],
    limit: LimitOption = None,
    nodes: Annotated[int, typer.Option(min=1, help="Noise levels of each scale.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    json: JsonOption = False,
) -> None:
    """Mean bound on the negative log likelihood, in bits/dim, with its terms apart."""
    with errors():
        scorer = CascadeScorer.from_pretrained(model, calibrated=False)
        images = images_of(open_images(data, limit=limit), scorer, name=data)
        # Noise keyed by content: a shared bank would shift the mean of all images alike.
        fidelity = Fidelity(nodes=nodes, seed=seed, noise="keyed")
        scores = scores_of(scorer, images, fidelity, name=data)
        bits = np.array([score.bits_per_dim for score in scores])
        terms = {name: float(np.mean([score.terms[name] for score in scores])) for name in scores[0].terms}
        stderr = float(bits.std(ddof=1) / sqrt(len(bits))) if len(bits) > 1 else None
        transform = scorer.cascade.transform
        document = {
            "model": scorer.model_name,
            "digest": scorer.digest,
            "data": data,
            "images": len(bits),
            "kind": "bound" if transform.volume_preserving else "loose bound (the transform is not volume preserving)",
            "bits_per_dim": {"mean": float(bits.mean()), "stderr": stderr},
            "nats": {"mean": float(np.mean([score.nats for score in scores]))},
            "terms": terms,
            "fidelity": fidelity.model_dump(),
            "precision": scorer.precision,
            "network_calls": scores[0].network_calls,
        }
        if json:
            print_json(document)
            return
        table = Table(title=f"{scorer.model_name} on {data}: {len(bits)} images, {document['kind']}")
        table.add_column("term")
        table.add_column("bits/dim", justify="right")
        for name, value in terms.items():
            table.add_row(name, f"{value:.5f}")
        error = "" if stderr is None else f" +- {stderr:.4f}"
        table.add_row("total", f"{bits.mean():.4f}{error}", style="bold")
        stdout.print(table)
