"""Detectors on outliers made from images like those trained on: what each finds, without another data set.

    python benchmarks/detectors.py measure weights/cifar10-haar docs/detectors.json runs/fidelity    # 40 core-minutes
    python benchmarks/detectors.py report docs/detectors.json docs/detectors.md

By the protocol of docs/protocol.md. `measure` keeps what it found in the folder named last, and goes on from there.
Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from commands import load, save, table
from numpy.typing import NDArray
from outliers import OUTLIERS, Images, outliers
from rich.progress import track
from scipy.stats import rankdata

from pcdm_core.data import load_array, open_images
from pcdm_core.detection import (
    ALIGNMENT,
    SPECTRUM,
    Detector,
    FeatureKind,
    FeatureLayout,
    MixtureDetector,
    PooledAlignmentDetector,
    SpectrumDetector,
)
from pcdm_core.scoring import FIDELITIES, CascadeScorer, Fidelity, Findings, FindingsCache

FIT, HELD_OUT = "cifar10:train[-5000:-2500]", "cifar10:train[-2500:]"
FITTED, NORMAL, ODD = 2500, 1000, 120
NODES = (2, 3, 1, 5, 10, 20)
RESAMPLED = 200
SEEN: dict[str, tuple[FeatureKind, ...]] = {
    "spectrum": SPECTRUM,
    "norms": ("norm",),
    "alignments": ALIGNMENT,
    "both": (*SPECTRUM, *ALIGNMENT),
}
CANDIDATES: dict[str, tuple[str, Detector]] = {
    "spectrum, Mahalanobis": ("spectrum", SpectrumDetector()),
    "spectrum, 16 mixtures (20, 3)": ("spectrum", MixtureDetector()),
    "norms, 16 mixtures (20, 3)": ("norms", MixtureDetector()),
    "both, 16 mixtures (20, 3)": ("both", MixtureDetector()),
    "alignments, Mahalanobis": ("alignments", SpectrumDetector()),
} | {
    f"alignments, {estimators} mixtures ({size}, {components})": (
        "alignments",
        MixtureDetector(n_estimators=estimators, max_features=size, n_components=components),
    )
    for estimators, size, components in (
        *((16, size, components) for size in (10, 20) for components in (1, 3, 5)),
        *((64, size, 3) for size in (5, 10, 20)),
    )
}
AVERAGED = {
    f"alignments averaged to {levels}, 64 mixtures ({size}, 3)": (levels, size)
    for levels in (1, 2, 3, 4, 5, 7, 10)
    for size in (10, 20, 40)
}
"""To so many noise levels, where there are more."""
FIRST = ("alignments, 64 mixtures (10, 3)", 2)
FROZEN = ("alignments averaged to 7, 64 mixtures (20, 3)", 20)
"""What was chosen, by preliminary figures on the same images: docs/protocol.md."""
BEFORE = ("spectrum, 16 mixtures (20, 3)", 2)

Floats = NDArray[np.float64]


def images_of(scorer: CascadeScorer) -> dict[str, Images]:
    """To fit, normal ones, and synthetic outliers of each kind."""
    fit, held_out = (load_array(open_images(name), scorer.preprocessing) for name in (FIT, HELD_OUT))
    return {"fit": fit, "normal": held_out[:NORMAL]} | outliers(held_out[NORMAL:], ODD)


def findings_of(
    scorer: CascadeScorer, fidelity: Fidelity, sets: Mapping[str, Images], cache: Path
) -> dict[str, Findings]:
    kept, size = FindingsCache(cache, scorer, fidelity), scorer.batch_size
    return {
        name: Findings.join([kept.findings(images[at : at + size]) for at in range(0, len(images), size)])
        for name, images in track(sets.items(), f"{fidelity.nodes} noise levels")
    }


def share_below(normal: Floats, odd: Floats) -> Floats:
    """Of each odd score, the share of normal scores below it, ties half: their mean is the AUROC."""
    ranks = rankdata(np.concatenate((normal, odd)))[len(normal) :]
    return (ranks - rankdata(odd)) / len(normal)


def auroc(normal: Floats, odd: Floats) -> float:
    return float(share_below(normal, odd).mean())


def mean_auroc(scores: Mapping[str, Floats]) -> float:
    """The criterion."""
    return float(np.mean([auroc(scores["normal"], scores[kind]) for kind in OUTLIERS]))


def resampled(scores: Mapping[str, Floats]) -> Floats:
    """The criterion on images drawn with replacement, the same ones for whatever detector; ``[RESAMPLED]``."""
    random = np.random.default_rng(1)
    return np.array(
        [
            mean_auroc({name: part[random.integers(0, len(part), len(part))] for name, part in scores.items()})
            for _ in range(RESAMPLED)
        ]
    )


def candidates(layout: FeatureLayout, nodes: int) -> dict[str, tuple[str, Detector]]:
    averaged = {
        name: ("alignments", PooledAlignmentDetector.for_layout(layout, levels=levels, max_features=size))
        for name, (levels, size) in AVERAGED.items()
        if levels < nodes
    }
    return {**CANDIDATES, **averaged}


def measure(model: Path, cache: Path) -> dict[str, Any]:
    scorer = CascadeScorer.from_pretrained(model, calibrated=False)
    sets = images_of(scorer)
    rows, again = [], []
    for nodes in NODES:
        fidelity = FIDELITIES["fast"].model_copy(update={"nodes": nodes})
        found = findings_of(scorer, fidelity, sets, cache)
        layout = scorer.layout(fidelity)
        for name, (columns, detector) in track(candidates(layout, nodes).items(), "candidates"):
            seen = {part: layout.select(one.features, SEEN[columns]) for part, one in found.items()}
            detector.fit(seen.pop("fit"))
            scores = {part: -detector.score_samples(features) for part, features in seen.items()}
            again.append(resampled(scores))
            rows.append(
                {
                    "detector": name,
                    "nodes": nodes,
                    "network_calls": nodes * scorer.scales,
                    "features": averaged_features(detector),
                    "mean_auroc": mean_auroc(scores),
                    "auroc": {kind: auroc(scores["normal"], scores[kind]) for kind in OUTLIERS},
                }
            )
    best = max(range(len(rows)), key=lambda place: rows[place]["mean_auroc"])
    for row, own in zip(rows, again, strict=True):
        row["behind"] = rows[best]["mean_auroc"] - row["mean_auroc"]
        row["stderr"] = float((again[best] - own).std())
    return {"digest": scorer.digest, "candidates": rows}


def averaged_features(detector: Detector) -> int:
    """What is left to the mixtures."""
    return int(detector.pools_.max()) + 1 if isinstance(detector, PooledAlignmentDetector) else detector.n_features_in_


REPORT = """# Detectors on synthetic outliers

Made by `benchmarks/detectors.py` with the model of digest `{digest:.12}`, by the rules of
[protocol.md](protocol.md). Each candidate was fitted on {fitted:,} training images that the cascade never saw. What is
told: the mean over {kinds} kinds of synthetic outliers of the single-image AUROC of {normal:,} further such images
against {odd} of the kind, and how far it is behind the best, with the standard error of that difference (bootstrap over
images).

*Spectrum*: log squared errors and log squared norms of the predicted noise. *Norms*: the latter alone. *Alignments*:
cosines between what is left of the noise and its prediction. *Averaged to L*: over neighbouring noise levels, so that L
are left. *Mahalanobis*: the detector `spectrum`, on these columns; *M mixtures (d, K)*: mean log density under M
mixtures of K Gaussians, each of d of the columns at random.

{candidates}

By the protocol, those not more than one standard error behind count as equal to the best. The first of them in network
calls, then in features, then in the criterion itself, is {chosen}.
Frozen by earlier figures on the same images (protocol.md) were first **{first}** ({behind_first} the best here), then
**{frozen}** ({behind}). What judges where none is
named is the latter at 10 noise levels, fitted on more images than here, with the nearest neighbours added.

By kind, {shown}:

{kinds_table}

What is odd in meaning only (upside down, inverted) is hardly seen; what is odd in sharpness, noise or compression is.
"""


def chosen(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the protocol takes: of all that are not more than a standard error behind, the cheapest."""
    equal = [row for row in rows if row["behind"] <= row["stderr"]]
    return min(equal, key=lambda row: (row["network_calls"], row["features"], row["behind"]))


def report(document: dict[str, Any]) -> str:
    rows = document["candidates"]
    by_name = {(row["detector"], row["nodes"]): row for row in rows}
    frozen, first = by_name[FROZEN], by_name[FIRST]
    shown = [frozen, first, by_name[BEFORE]]
    names = [called(row) for row in shown]
    return REPORT.format(
        digest=document["digest"],
        normal=NORMAL,
        odd=ODD,
        fitted=FITTED,
        kinds=len(OUTLIERS),
        candidates=table(
            [
                (
                    *(row["detector"], row["nodes"], row["network_calls"], row["features"]),
                    *(f"{row['mean_auroc']:.4f}", f"{row['behind']:.4f} ± {row['stderr']:.4f}"),
                )
                for row in rows
            ],
            head=("detector", "noise levels", "network calls", "features", "mean AUROC", "behind the best"),
        ),
        chosen=called(chosen(rows)),
        frozen=names[0],
        behind=behind(frozen),
        first=names[1],
        behind_first=behind(first),
        shown="; ".join(names),
        kinds_table=table(
            [(kind, *(f"{row['auroc'][kind]:.3f}" for row in shown)) for kind in OUTLIERS],
            head=("synthetic outliers", *names),
        ),
    )


def behind(row: dict[str, Any]) -> str:
    return f"{row['behind']:.4f} ± {row['stderr']:.4f} behind"


def called(row: dict[str, Any]) -> str:
    return f"{row['detector']}, {row['nodes']} noise levels"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["measure", model, document, cache]:
            save(measure(Path(model), Path(cache)), document)
        case ["report", document, page]:
            Path(page).write_text(report(load(document)))
        case _:
            raise SystemExit(__doc__)
