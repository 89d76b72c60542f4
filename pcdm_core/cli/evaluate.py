"""`pcdm evaluate`."""

from __future__ import annotations

from math import log, sqrt
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from pcdm_core.cli.console import (
    DEFAULT_DEVICE,
    DeviceOption,
    JsonOption,
    LimitOption,
    errors,
    images_of,
    print_json,
    scores_of,
    stdout,
)
from pcdm_core.data import open_images
from pcdm_core.likelihood import Divergence, Method, noise_levels
from pcdm_core.model import pick_device
from pcdm_core.scoring import CascadeScorer, Fidelity, Score

__all__ = ["evaluate"]

_KINDS: dict[Method, str] = {
    "bound": "estimate of the continuous-time bound",
    "certified": "bound, certified in expectation",
    "flow": "bound by the dequantised density of the probability flow, in expectation",
}
_SHARED = "an estimate, as the draws of an image share one probe of the divergence"
_LOOSE = "loose, as the transform does not preserve volume: the coarse images are explained besides the image itself"


def evaluate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    data: Annotated[str, typer.Argument(help="Images: a folder, a parquet or npz file, a data set's name.")],
    limit: LimitOption = None,
    method: Annotated[Method, typer.Option(help="Bound, estimated or certified, or the flow's density.")] = "bound",
    nodes: Annotated[int, typer.Option(min=1, help="Noise levels of each scale; steps of the flow.")] = 16,
    replicates: Annotated[
        int,
        typer.Option(min=1, help="Repetitions: two or more tell the error by noise. Draws to average, for the flow."),
    ] = 1,
    tolerance: Annotated[
        float | None,
        typer.Option(help="For the flow: error of a step, nats/dim, that is let pass; each image has its own steps."),
    ] = None,
    divergence: Annotated[
        Divergence, typer.Option(help="For the flow: by one random probe, or exact, which is for small images.")
    ] = "hutchinson",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    device: DeviceOption = DEFAULT_DEVICE,
    json: JsonOption = False,
) -> None:
    """Mean bound on the negative log likelihood, in bits/dim, with its terms and its errors apart."""
    with errors():
        scorer = CascadeScorer.from_pretrained(model, device=pick_device(device), calibrated=False)
        images = images_of(open_images(data, limit=limit), scorer, name=data)
        # Noise keyed by content: a shared bank would shift the mean of all images alike.
        fidelity = Fidelity(
            method=method,
            nodes=nodes,
            tolerance=tolerance,
            divergence=divergence,
            seed=seed,
            noise="keyed",
            replicates=replicates,
        )
        scores = scores_of(scorer, images, fidelity, name=data)
        document = {"model": scorer.model_name, "digest": scorer.digest, "data": data, "images": len(scores)}
        document |= _summary(scorer, scores, fidelity)
        if json:
            print_json(document)
        else:
            stdout.print(_table(document))


def _summary(scorer: CascadeScorer, scores: list[Score], fidelity: Fidelity) -> dict[str, Any]:
    """Means over images; every number is in bits/dim unless it says nats."""
    bits = np.array([score.bits_per_dim for score in scores])
    terms = {name: float(np.mean([score.terms[name] for score in scores])) for name in scores[0].terms}
    to_nats = scorer.cascade.config.dimensions * log(2)
    kind = _KINDS[fidelity.method]
    if fidelity.method == "flow" and fidelity.divergence == "hutchinson" and fidelity.replicates > 1:
        kind += f"; {_SHARED}"
    if not scorer.cascade.transform.volume_preserving:
        kind += f"; {_LOOSE}"
    stderr = float(bits.std(ddof=1) / sqrt(len(bits))) if len(bits) > 1 else None
    return {
        "kind": kind,
        "bits_per_dim": {"mean": float(bits.mean()), "stderr": stderr},
        "nats": {"mean": float(bits.mean() * to_nats), "stderr": None if stderr is None else stderr * to_nats},
        "terms": terms,
        "terms_nats": {name: value * to_nats for name, value in terms.items()},
        "diffusion": _diffusion(scorer, scores, fidelity),
        "errors": _errors(scores, bits, stderr),
        "fidelity": fidelity.settings(),
        "precision": scorer.precision,
        "network_calls": float(np.mean([score.network_calls for score in scores])),
    }


def _diffusion(scorer: CascadeScorer, scores: list[Score], fidelity: Fidelity) -> dict[str, list[dict[str, float]]]:
    """Mean diffusion term at each noise level of each scale; nothing for the flow, which has none."""
    diffusion = [score.diffusion for score in scores if score.diffusion is not None]
    if not diffusion:
        return {}
    schedule = scorer.cascade.schedule
    return {
        f"scale_{scale}": [
            {"gamma": float(gamma), "bits_per_dim": float(value)}
            for gamma, value in zip(
                noise_levels(schedule, scale, fidelity.method, fidelity.nodes, fidelity.rule).gamma, row, strict=True
            )
        ]
        for scale, row in enumerate(np.mean(diffusion, axis=0), start=1)
    }


def _errors(scores: list[Score], bits: Any, stderr: float | None) -> dict[str, float | None]:
    """What the mean may be off by, each kind of error apart, bits/dim.

    ``images``: standard error over images, which holds that by noise too, as each image has noise of its own.
    ``noise``: standard error of the mean over these very images, from replicates. ``time``: what a rule on every second
    node says otherwise, which is more than the error of the rule itself; for the flow, what the solver of lower order
    says, which is about as much; none for a certified sum.
    """
    noise, embedded = [score.stderr for score in scores], [score.embedded_bits_per_dim for score in scores]
    known = [value for value in noise if value is not None]
    rules = [value for value in embedded if value is not None]
    return {
        "images": stderr,
        "noise": sqrt(sum(value**2 for value in known)) / len(scores) if len(known) == len(scores) else None,
        "time": abs(float(np.mean(rules) - bits.mean())) if len(rules) == len(scores) else None,
    }


def _table(document: dict[str, Any]) -> Table:
    title = f"{document['model']} on {document['data']}: {document['images']} images, {document['kind']}"
    known = [f"{name} {value:.4f}" for name, value in document["errors"].items() if value is not None]
    table = Table(title=title, caption=f"errors by {', '.join(known)}" if known else None)
    table.add_column("term")
    table.add_column("bits/dim", justify="right")
    table.add_column("nats", justify="right")
    for name, value in document["terms"].items():
        table.add_row(name, f"{value:.5f}", f"{document['terms_nats'][name]:.2f}")
    stderr = document["bits_per_dim"]["stderr"]
    error = "" if stderr is None else f" +- {stderr:.4f}"
    nats = f"{document['nats']['mean']:.2f}"
    table.add_row("total", f"{document['bits_per_dim']['mean']:.4f}{error}", nats, style="bold")
    return table
