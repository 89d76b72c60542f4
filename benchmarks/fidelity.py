"""How many network calls the detector needs: AUROC against the number of noise levels.

    python benchmarks/fidelity.py measure weights/cifar10-haar docs/fidelity.json runs/fidelity    # 50 core-minutes
    python benchmarks/fidelity.py report docs/fidelity.json docs/fidelity.md                      # and fidelity.png

`measure` keeps what it found in the folder named last, and goes on from there. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from commands import load, save, table
from detectors import FITTED, NORMAL, ODD, OUTLIERS, auroc, findings_of, images_of, mean_auroc
from matplotlib.figure import Figure
from numpy.typing import NDArray
from outliers import Images

from pcdm_core.data import load_array, open_images
from pcdm_core.detection import compare_aurocs, detector_named
from pcdm_core.scoring import FIDELITIES, CascadeScorer, Fidelity

TIMED = 128
REPORTED = {"SVHN": "svhn:test", "CIFAR-100": "cifar100:test"}
SYNTHETIC = "synthetic outliers"
NODES = (1, 2, 3, 5, 10, 20)
DETECTORS = {"alignment": NODES, "pooled_alignment": (10, 20), "alignment_neighbours": NODES}
"""And at which of these numbers of noise levels: the second averages where there are more than 7."""
NEAR = 0.003
"""How far below the best AUROC a setting may stay to be good enough."""

Floats = NDArray[np.float64]


def measure(model: Path, cache: Path) -> dict[str, Any]:
    scorer = CascadeScorer.from_pretrained(model, calibrated=False)
    sets = images_of(scorer)
    for name, source in REPORTED.items():
        sets[name] = load_array(open_images(source, limit=NORMAL), scorer.preprocessing)
    costs: dict[int, dict[str, float]] = {}
    scores: dict[tuple[str, int], dict[str, Floats]] = {}
    for nodes in NODES:
        fidelity = FIDELITIES["fast"].model_copy(update={"nodes": nodes, "activations": True})
        found = findings_of(scorer, fidelity, sets, cache)
        costs[nodes] = cost_of(scorer, fidelity, sets["normal"][:TIMED])
        for name in [name for name, tried in DETECTORS.items() if nodes in tried]:
            detector = detector_named(name, scorer.layout(fidelity))
            features = {part: one.seen_by(detector) for part, one in found.items()}
            detector.fit(features.pop("fit"))
            scores[name, nodes] = {part: -detector.score_samples(own) for part, own in features.items()}
    told = {setting: aurocs(own) for setting, own in scores.items()}
    best = {reported: max(told, key=lambda setting: told[setting][reported]) for reported in (SYNTHETIC, *REPORTED)}
    return {
        "digest": scorer.digest,
        "best": best,
        "settings": [
            costs[nodes]
            | {
                "detector": name,
                "nodes": nodes,
                "auroc": told[name, nodes],
                "behind": {one: compare(scores[best[one]], scores[name, nodes], one) for one in REPORTED},
            }
            for name, nodes in sorted(told, key=lambda setting: (setting[1], setting[0]))
        ],
    }


def cost_of(scorer: CascadeScorer, fidelity: Fidelity, images: Images) -> dict[str, float]:
    started = time.process_time()
    scores = scorer.score(images, fidelity)
    seconds = (time.process_time() - started) / len(images)
    return {"network_calls": scores[0].network_calls, "core_seconds_per_image": seconds}


def aurocs(scores: Mapping[str, Floats]) -> dict[str, float]:
    """Of each reported set, and the mean over the kinds of synthetic outliers, against normal images."""
    return {SYNTHETIC: mean_auroc(scores)} | {name: auroc(scores["normal"], scores[name]) for name in REPORTED}


def compare(best: Mapping[str, Floats], other: Mapping[str, Floats], name: str) -> dict[str, Any]:
    return compare_aurocs(best["normal"], best[name], other["normal"], other[name]).to_dict()


REPORT = """# Noise levels and network calls of the detector

Made by `benchmarks/fidelity.py` with the model of digest `{digest:.12}`. {detectors} detectors, fitted at each number
of noise levels on the same {fitted:,} held-out training images; single-image AUROC of {normal:,} further such images
against {odd} images of each of {kinds} kinds of synthetic outliers (mean over kinds), and against {normal:,} images
each of two other sets. Behind the best: difference and standard error (DeLong).

{rows}

The smallest setting within {near} of the best is, by the synthetic outliers, {chosen[0]}; by SVHN
{chosen[1]}; by CIFAR-100 {chosen[2]}. Core-seconds are those of this run, and only good to be compared with each other.

![AUROC against network calls]({picture})
"""


def report(document: dict[str, Any], picture: Path) -> str:
    settings, sets = document["settings"], (SYNTHETIC, *REPORTED)
    head = ["detector", "noise levels", "network calls", "core-seconds an image", SYNTHETIC]
    for name in REPORTED:
        head += [name, "behind the best"]
    rows = []
    for one in settings:
        row = [one["detector"], one["nodes"], one["network_calls"], f"{one['core_seconds_per_image']:.3f}"]
        row.append(f"{one['auroc'][SYNTHETIC]:.4f}")
        for name in REPORTED:
            behind = one["behind"][name]
            row += [f"{one['auroc'][name]:.4f}", f"{behind['difference']:.4f} ± {behind['stderr']:.4f}"]
        rows.append(row)
    draw(settings, sets, picture)
    return REPORT.format(
        digest=document["digest"],
        detectors=len(DETECTORS),
        fitted=FITTED,
        normal=NORMAL,
        odd=ODD,
        kinds=len(OUTLIERS),
        near=NEAR,
        rows=table(rows, head=head),
        chosen=[smallest(settings, name) for name in sets],
        picture=picture.name,
    )


def smallest(settings: list[dict[str, Any]], name: str) -> str:
    """The setting with fewest noise levels that is near enough to the best."""
    best = max(one["auroc"][name] for one in settings)
    near = min((one for one in settings if one["auroc"][name] >= best - NEAR), key=lambda one: int(one["nodes"]))
    return f"`{near['detector']}` at {near['nodes']} levels"


def draw(settings: list[dict[str, Any]], sets: tuple[str, ...], file: Path) -> None:
    figure = Figure(figsize=(9, 3), layout="constrained")
    calls = sorted({one["network_calls"] for one in settings})
    for name, axes in zip(sets, figure.subplots(1, len(sets)), strict=True):
        for detector in DETECTORS:
            rows = [one for one in settings if one["detector"] == detector]
            axes.semilogx(
                *zip(*((one["network_calls"], one["auroc"][name]) for one in rows), strict=True), "o-", label=detector
            )
        axes.set_xticks(calls, map(str, calls), rotation=60)
        axes.minorticks_off()
        axes.set(title=name, xlabel="network calls", ylabel="AUROC")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["measure", model, document, cache]:
            save(measure(Path(model), Path(cache)), document)
        case ["report", document, page]:
            Path(page).write_text(report(load(document), Path(page).with_suffix(".png")))
        case _:
            raise SystemExit(__doc__)
