"""`pcdm calibrate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from pcdm_core.cli.console import JsonOption, LimitOption, errors, images_of, print_json, scores_of, stdout
from pcdm_core.data import open_images
from pcdm_core.detection import DETECTORS, Calibration, detector_class, ood_metrics
from pcdm_core.scoring import CALIBRATION_FILE, FIDELITIES, CascadeScorer, Fidelity

__all__ = ["calibrate"]

_DETECTOR, _ALPHA, _FAST = "mixture", 0.05, FIDELITIES["fast"]


def calibrate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    fit: Annotated[
        str | None,
        typer.Option(help="Make calibration.json anew from these images: half fit the detector, half calibrate it."),
    ] = None,
    in_distribution: Annotated[str | None, typer.Option("--id", help="Held-out images like those trained on.")] = None,
    ood: Annotated[list[str] | None, typer.Option(help="Images unlike those trained on; may be given again.")] = None,
    limit: LimitOption = None,
    detector: Annotated[
        str | None, typer.Option(help=f"With --fit: {' or '.join(DETECTORS)}; {_DETECTOR} by default.")
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help=f"Noise levels of each scale, with --fit; {_FAST.nodes} by default."),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help=f"Wanted false-positive rate, with --fit; {_ALPHA} by default."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Fit and calibrate the detector (--fit), and measure how well it tells sets apart (--id against --ood)."""
    with errors():
        of_the_fit = {"--detector": detector, "--nodes": nodes, "--alpha": alpha}
        given = [name for name, value in of_the_fit.items() if value is not None]
        if fit is None and given:
            raise ValueError(f"{', '.join(given)}: only with --fit; else the settings of {CALIBRATION_FILE} hold")
        scorer = CascadeScorer.from_pretrained(model, calibrated=fit is None)
        if fit is not None:
            name = _DETECTOR if detector is None else detector
            detector_class(name)  # an unknown one is refused before the images are read
            fidelity = _FAST if nodes is None else _FAST.model_copy(update={"nodes": nodes})
            _fit(scorer, model, fit, fidelity, name, _ALPHA if alpha is None else alpha)
            scorer = CascadeScorer.from_pretrained(model)
        if scorer.calibration is None:
            raise ValueError(f"{model} has no {CALIBRATION_FILE}: make one with --fit DATA")
        if (in_distribution is None) != (not ood):
            raise ValueError("--id and --ood are measured against each other: give both")
        document: dict[str, Any] = {
            "model": scorer.model_name,
            "digest": scorer.digest,
            "detector": scorer.calibration.identity.detector,
            "alpha": scorer.alpha,
            "fidelity": scorer.fidelity.settings(),
        }
        if in_distribution is not None and ood:
            document |= _measure(scorer, in_distribution, ood, limit)
        if json:
            print_json(document)
        elif "sets" in document:
            stdout.print(_table(document))
        else:
            stdout.print(f"wrote {model / CALIBRATION_FILE}")


def _fit(scorer: CascadeScorer, model: Path, fit: str, fidelity: Fidelity, detector: str, alpha: float) -> None:
    images = images_of(open_images(fit), scorer, name=fit)
    features = np.stack([score.features for score in scores_of(scorer, images, fidelity, name=fit)])
    half = len(features) // 2
    calibration = Calibration.fit(
        features[:half],
        features[half:],
        identity=scorer.identity(fidelity, detector),
        alpha=alpha,
        provenance={"data": fit, "fit_images": half, "calibration_images": len(features) - half},
    )
    if math.isinf(calibration.threshold()):
        raise ValueError(
            f"{len(features) - half} calibration images are too few to ever flag at alpha = {alpha}: "
            f"at least {math.ceil(1 / alpha) - 1} are needed"
        )
    calibration.save(model / CALIBRATION_FILE)


def _measure(scorer: CascadeScorer, in_distribution: str, ood: list[str], limit: int | None) -> dict[str, Any]:
    def read(name: str) -> NDArray[np.float64]:
        images = images_of(open_images(name, limit=limit), scorer, name=name)
        return np.array([score.score for score in scores_of(scorer, images, name=name)], dtype=np.float64)

    assert scorer.calibration is not None
    normal = read(in_distribution)
    flagged = scorer.calibration.is_ood(scorer.calibration.p_values(normal))
    return {
        "id": {"source": in_distribution, "images": len(normal), "flagged": float(flagged.mean())},
        "sets": [{"source": name, **ood_metrics(normal, read(name)).to_dict()} for name in ood],
    }


def _table(document: dict[str, Any]) -> Table:
    title = f"{document['model']}, single images, against {document['id']['source']}"
    caption = f"{document['id']['flagged']:.3f} of its images flagged at alpha = {document['alpha']}"
    table = Table(title=title, caption=caption)
    table.add_column("set", overflow="fold")
    names = {
        "auroc": "AUROC",
        "aupr_out": "AUPR (OOD)",
        "aupr_in": "AUPR (ID)",
        "fpr_at_95_tpr_out": "FPR at 95 % TPR (OOD positive)",
    }
    for name in names.values():
        table.add_column(name, justify="right")
    for row in document["sets"]:
        cells = [f"{row[n]['value']:.4f} [{row[n]['low']:.4f}, {row[n]['high']:.4f}]" for n in names]
        table.add_row(row["source"], *(cell.replace("[", "\\[") for cell in cells))
    return table
