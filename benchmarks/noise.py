"""What noise does to the bound: the control variate, shared and keyed noise, and whether the standard error is true.

    python benchmarks/noise.py measure weights/cifar10-haar docs/noise.json    # ten minutes of a core
    python benchmarks/noise.py report docs/noise.json docs/noise.md

Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any, get_args

import numpy as np
from commands import measure_or_report
from numpy.typing import NDArray
from rich.progress import track

from pcdm_core.data import load_array, open_images
from pcdm_core.likelihood import NoiseKind, noise_levels
from pcdm_core.scoring import FIDELITIES, CascadeScorer, Fidelity

DATA, IMAGES, SEEDS, REPLICATES = "cifar10:test", 64, 16, 4
NODES = FIDELITIES["balanced"].nodes

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]


def bounds(scorer: CascadeScorer, images: Images, fidelity: Fidelity) -> tuple[Floats, Floats]:
    """Bits/dim of each image with the control variate, and without."""
    cascade = scorer.cascade
    levels = [noise_levels(cascade.schedule, s, "bound", fidelity.nodes) for s in range(1, cascade.config.scales + 1)]
    kept, raw = np.zeros(len(images)), np.zeros(len(images))
    for batch in scorer.batches(scorer.plan_likelihood(images, fidelity)):
        for unit, result in zip(batch, scorer.run(batch), strict=True):
            if unit.scale == 0:
                kept[unit.index] += result.values.sum()
                raw[unit.index] += result.values.sum()
            else:
                bands = len(cascade.transform.bands(unit.scale))
                kept[unit.index] += result.values[0]
                weight = 0.5 * levels[unit.scale - 1].weights[unit.node]
                raw[unit.index] += weight * result.values[1 : 1 + bands].sum()
    to_bits = 1 / (cascade.config.dimensions * log(2))
    return kept * to_bits, raw * to_bits


def measure(model: Path) -> dict[str, Any]:
    scorer = CascadeScorer.from_pretrained(model, calibrated=False)
    images = load_array(open_images(DATA, limit=IMAGES), scorer.preprocessing)
    spreads = {}
    for kind in get_args(NoiseKind):
        seeds = track(range(SEEDS), f"{kind} noise")
        draws = np.array([bounds(scorer, images, Fidelity(nodes=NODES, noise=kind, seed=seed)) for seed in seeds])
        for place, name in enumerate(("with", "without")):
            values = draws[:, place]
            spreads[f"{kind}, {name}"] = {
                "image": float(values.std(0, ddof=1).mean()),
                "mean": float(values.mean(1).std(ddof=1)),
            }
    fidelity = Fidelity(nodes=NODES, noise="keyed", replicates=REPLICATES)
    scores = [
        scorer.score(images, fidelity.model_copy(update={"seed": 1000 + seed}))
        for seed in track(range(SEEDS // 2), "replicates")
    ]
    told = np.array([[score.stderr for score in row] for row in scores], dtype=np.float64)
    true = np.array([[score.bits_per_dim for score in row] for row in scores]).std(0, ddof=1)
    return {
        "digest": scorer.digest,
        "spreads": spreads,
        "told": float((told**2).mean() ** 0.5),
        "true": float((true**2).mean() ** 0.5),
    }


REPORT = """# Noise in the bound

Made by `benchmarks/noise.py` with the model of digest `{digest:.12}`: {images} CIFAR-10 test images, {nodes} nodes,
{seeds} seeds. In bits/dim: the standard deviation over seeds of one image's bound, on average, and that of the mean
over all images.

| noise | control variate | one image | mean of {images} images | one image / sqrt({images}) |
| --- | --- | --- | --- | --- |
{rows}

* The control variate `||eps||^2 - rank` has mean zero. Its weight, the squared share of the noise that a linear guess
  leaves, is too large where a network does much better than that; what it is worth, the table shows.
* Shared noise is one bank for all images: their errors are alike, and do not average out in the mean. Keyed noise
  depends on the image: its mean errs as that of independent images should, by the last column. Hence `evaluate` uses
  keyed noise, and detection, which compares images, shared noise.
* With `--replicates {replicates}`, the standard error that is told has a root mean square of {told:.5f}; the true
  spread of such an answer over seeds is {true:.5f}.
"""


def report(document: dict[str, Any]) -> str:
    rows = []
    for name, found in document["spreads"].items():
        kind, variate = name.split(", ")
        alone = found["image"] / IMAGES**0.5
        rows.append(f"| {kind} | {variate} | {found['image']:.5f} | {found['mean']:.5f} | {alone:.5f} |")
    return REPORT.format(
        digest=document["digest"],
        images=IMAGES,
        nodes=NODES,
        seeds=SEEDS,
        replicates=REPLICATES,
        rows="\n".join(rows),
        told=document["told"],
        true=document["true"],
    )


if __name__ == "__main__":
    measure_or_report(__doc__, measure, report)
