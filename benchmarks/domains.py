"""The same code on images that are no photographs: digits of 8x8 pixels with 17 levels, spectrograms of 32x64.

    python benchmarks/domains.py train runs/domains          # about twelve minutes of one core
    python benchmarks/domains.py measure runs/domains docs   # about four more; writes domains.json
    python benchmarks/domains.py report runs/domains docs    # writes domains.md and domains.png

Three cascades: of all digits, of the digits 0 to 7 alone (which 8 and 9 are then unknown to), of notes. What each is
trained on, what its detector is fitted on, what calibrates it and what it is tested on do not overlap.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from commands import load, save
from domain_cases import (
    ALPHA,
    CASES,
    CERTIFIED_NODES,
    DETECTOR,
    ESTIMATE_NODES,
    EVALUATED,
    FAST,
    SHEET,
    STEPS,
    Case,
    Images,
    folder_of,
)
from domain_report import draw, report
from numpy.typing import NDArray
from scipy.stats import binomtest

from pcdm_core.detection import Calibration, detector_named, ood_metrics
from pcdm_core.sampling import sample_images
from pcdm_core.scoring import CALIBRATION_FILE, CascadeScorer, Fidelity
from pcdm_core.training import Progress, load_config, train


def run(case: Case, folder: Path) -> None:
    """Train the cascade of a case; one that is done stays as it is."""
    if (folder / "summary.json").exists():
        return
    last: Progress | None = None

    def note(progress: Progress) -> None:
        nonlocal last
        last = progress
        if progress.step % 50 == 0:
            print(f"{folder.name} {progress.step} {progress.bits_per_dim:.3f} {progress.cpu_seconds:.0f} s", flush=True)

    config = load_config(case.config)
    train(config, case.training, folder, on_step=note)
    assert last is not None
    summary = {"steps": last.step, "batch_size": config.batch_size, "cpu_seconds": last.cpu_seconds}
    save(summary, f"{folder}/summary.json")


def baselines(training: Images, test: Images, levels: int) -> dict[str, float]:
    """Bits/dim of models without a network, fitted on the training images with one added to every count."""
    counts = (training[..., None] == np.arange(levels, dtype=np.uint8)).sum(0) + 1  # [C, H, W, levels]
    alone = -np.log2(counts / counts.sum(-1, keepdims=True))
    pixels = np.take_along_axis(alone, test.transpose(1, 2, 3, 0).astype(int), axis=-1).mean(-1)  # [C, H, W]
    pairs = np.ones((levels, levels))
    np.add.at(pairs, (training[..., :-1], training[..., 1:]), 1)
    given = -np.log2(pairs / pairs.sum(1, keepdims=True))
    chain = np.concatenate((pixels[..., :1], given[test[..., :-1], test[..., 1:]].mean(0)), axis=-1)
    return {
        "uniform": float(np.log2(levels)),
        "each pixel on its own": float(pixels.mean()),
        "given the left neighbour": float(chain.mean()),
    }


def share(flagged: NDArray[np.bool_]) -> dict[str, float]:
    interval = binomtest(int(flagged.sum()), len(flagged)).proportion_ci(method="wilson")
    return {"value": float(flagged.mean()), "low": float(interval.low), "high": float(interval.high)}


def measure(case: Case, folder: Path) -> dict[str, Any]:
    scorer = CascadeScorer.from_pretrained(folder / "model", calibrated=False)
    evaluated = case.test[:EVALUATED]

    def bits(images: Images, settings: Fidelity) -> dict[str, float]:
        values = np.array([score.bits_per_dim for score in scorer.score(images, settings)])
        return {"mean": float(values.mean()), "stderr": float(values.std(ddof=1) / len(values) ** 0.5)}

    likelihood = {
        "estimate": bits(evaluated, Fidelity(nodes=ESTIMATE_NODES, noise="keyed")),
        "certified": bits(evaluated, Fidelity(method="certified", nodes=CERTIFIED_NODES, noise="keyed")),
        "training images": bits(case.training[:EVALUATED], Fidelity(nodes=ESTIMATE_NODES, noise="keyed")),
    }
    detector = detector_named(DETECTOR, scorer.layout(FAST), alpha=ALPHA)
    held_out = [scorer.findings(part, FAST) for part in (case.fit, case.calibration)]
    calibration = Calibration.fit(
        *(found.seen_by(detector) for found in held_out),
        identity=scorer.identity(FAST, DETECTOR),
        detector=detector,
        alpha=ALPHA,
    )
    calibration.save(folder / "model" / CALIBRATION_FILE)
    scorer = CascadeScorer.from_pretrained(folder / "model")
    answers = {name: scorer.score(images) for name, images in ({"test": case.test} | case.odd).items()}
    scores = {name: np.array([answer.score for answer in found], float) for name, found in answers.items()}
    raw = {name: np.array([answer.bits_per_dim for answer in found]) for name, found in answers.items()}
    flagged = {name: share(np.array([answer.is_ood for answer in found], bool)) for name, found in answers.items()}
    samples = sample_images(scorer.cascade, SHEET, method="ancestral", steps=STEPS, seed=0).numpy()
    np.savez(folder / "figure.npz", allow_pickle=False, samples=samples, **scores)
    return {
        **load(f"{folder}/summary.json"),
        "parameters": sum(p.numel() for p in scorer.cascade.parameters()),
        "image_shape": scorer.cascade.config.image_shape,
        "levels": scorer.cascade.config.levels,
        "scales": scorer.cascade.config.scales,
        "images": {name: len(getattr(case, name)) for name in ("training", "fit", "calibration", "test")},
        "evaluated": len(evaluated),
        "bits_per_dim": likelihood,
        "baselines": baselines(case.training, evaluated, scorer.cascade.config.levels),
        "flagged": flagged.pop("test"),
        "sets": {
            name: {
                "images": len(images),
                "auroc": ood_metrics(scores["test"], scores[name]).to_dict()["auroc"],
                "auroc_of_bits_per_dim": ood_metrics(raw["test"], raw[name]).to_dict()["auroc"],
                "flagged": flagged[name],
            }
            for name, images in case.odd.items()
        },
    }


def main() -> None:
    match sys.argv[1:]:
        case ["train", runs]:
            for name, make in CASES.items():
                run(make(), folder_of(Path(runs), name))
        case ["measure", runs, docs]:
            found = {name: measure(make(), folder_of(Path(runs), name)) for name, make in CASES.items()}
            save(found, f"{docs}/domains.json")
        case ["report", runs, docs]:
            Path(docs, "domains.md").write_text(report(load(f"{docs}/domains.json")))
            draw({name: make() for name, make in CASES.items()}, Path(runs), Path(docs, "domains.png"))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
