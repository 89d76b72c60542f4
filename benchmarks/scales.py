"""Cascades of one, two and three scales at equal processor time: which one compresses, and which one detects, better?

    python benchmarks/scales.py train runs/scales          # about ten minutes of two cores for each
    python benchmarks/scales.py measure runs/scales docs/scales.json
    python benchmarks/scales.py report docs/scales.json docs/scales.md

Every cascade has the same network at the same resolution: that of two scales lacks the 8x8 network, that of one scale
the 16x16 network too. All follow the recipe of the shipped configuration: warm-up, constant learning rate, and a decay
over the last two fifths of the budget. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcdm_core.data import Preprocessing, load_array, open_images
from pcdm_core.detection import SpectrumDetector, ood_metrics
from pcdm_core.scoring import CascadeScorer, Fidelity
from pcdm_core.training import Progress, TrainConfig, load_config, train

CPU_SECONDS = 20 * 60.0
SCALES = (3, 2, 1)
DECAY = 0.4
PROBE_STEPS = 60
EVALUATED, DETECTED, FITTED = 1000, 1000, 2500
ID, OOD = "cifar10:test", ("svhn:test", "cifar100:test")

Images = NDArray[np.uint8]


def images(name: str, limit: int | None = None) -> Images:
    return load_array(
        open_images(name, limit=limit), Preprocessing.model_validate({"channels": 3, "height": 32, "width": 32})
    )


def config_of(scales: int, steps: int) -> TrainConfig:
    settings = load_config("cifar10-haar").model_dump()
    settings["cascade"] |= {
        "networks": settings["cascade"]["networks"][-scales:],
        "transform": "identity" if scales == 1 else "haar",
    }
    settings["optimizer"]["decay_steps"] = round(DECAY * steps)
    return TrainConfig.model_validate(settings | {"steps": steps})


def run(scales: int, data: Images, folder: Path) -> None:
    seconds = [0.0]

    def note(progress: Progress) -> None:
        seconds.append(progress.cpu_seconds)
        if progress.step % 50 == 0:
            print(
                f"S={scales} step {progress.step} {progress.bits_per_dim:.3f} {progress.cpu_seconds:.0f} s", flush=True
            )

    probe = folder.with_name(f"{folder.name}-probe")
    train(config_of(scales, PROBE_STEPS), data, probe, on_step=note)
    shutil.rmtree(probe)
    pace = (seconds[PROBE_STEPS] - seconds[PROBE_STEPS // 2]) / (PROBE_STEPS - PROBE_STEPS // 2)
    steps = round(CPU_SECONDS / pace)
    config = config_of(scales, steps)
    started = time.monotonic()
    stable = steps - config.optimizer.decay_steps
    train(config, data, folder, on_step=note, stop_after=stable)
    shutil.copytree(folder, folder.with_name(f"{folder.name}-stable"))
    train(config, data, folder, on_step=note)
    summary = {
        "scales": scales,
        "steps": steps,
        "images": steps * config.batch_size,
        "cpu_seconds": seconds[-1],
        "wall_seconds": time.monotonic() - started,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


def measure(folder: Path) -> dict[str, Any]:
    scorer = CascadeScorer.from_pretrained(folder / "model", calibrated=False)
    keyed = Fidelity(nodes=10, rule="time", noise="keyed")
    bits = np.array([score.bits_per_dim for score in scorer.score(images(ID, EVALUATED), keyed)])
    shared = Fidelity(nodes=6, rule="time")
    seen, cpu = 0, 0.0

    def features(name: str, limit: int) -> NDArray[np.float64]:
        nonlocal seen, cpu
        found, started = images(name, limit), time.process_time()
        findings = scorer.findings(found, shared)
        seen, cpu = seen + len(found), cpu + time.process_time() - started
        return findings.seen_by(detector)

    detector = SpectrumDetector()
    detector.fit(features("cifar10:train[-5000:]", FITTED))
    normal = -detector.score_samples(features(ID, DETECTED))
    auroc = {
        name: ood_metrics(normal, -detector.score_samples(features(name, DETECTED))).to_dict()["auroc"] for name in OOD
    }
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary | {
        "parameters": sum(p.numel() for p in scorer.cascade.parameters()),
        "bits_per_dim": {"mean": bits.mean(), "stderr": bits.std(ddof=1) / len(bits) ** 0.5, "images": len(bits)},
        "auroc": auroc,
        "auroc_images": DETECTED,
        "network_calls": shared.nodes * scorer.cascade.transform.scales,
        "scored_images_per_core_second": seen / cpu,
    }


REPORT = """# One, two and three scales at equal processor time

Made by `benchmarks/scales.py` on two cores of an AMD EPYC (Zen 4), PyTorch 2.13.0, CPU; nothing else ran while the
cascades were trained, one after the other. Each was given 20 core-minutes (the pace is measured over 30 steps before,
hence what they really took), batch 64, bfloat16 autocast, learning rate 1e-3 constant and then a cosine decay over
the last two fifths of the steps. All have the same network at the same resolution: two scales lack the 8x8 network,
one scale is a plain variational diffusion model with the 32x32 network alone. These networks saw Fourier features at
full amplitude under any noise (model format 1), which has changed since.

{table}

Bits/dim: estimate of the bound on the first {evaluated} CIFAR-10 test images, 10 nodes, noise keyed by content, with
its standard error over images. AUROC: single images, {detected} of each set against as many CIFAR-10 test images,
spectrum detector with 6 nodes of each scale fitted on {fitted} images that no cascade was trained on, 95 % bootstrap
interval.
Scoring speed is per second of one core, float32, so that it does not depend on what else the machine did.

What it says: after so short a training the plain model compresses better (it also saw half as many images again in the
same time), and the cascades tell SVHN better, at two and three times the network calls. Against CIFAR-100, and between
the two cascades, the differences are within the intervals. The shipped model has three scales.
"""


def report(rows: list[dict[str, Any]]) -> str:
    def interval(row: dict[str, Any], name: str) -> str:
        found = row["auroc"][name]
        return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"

    head = ["S", "parameters", "core-minutes", "images seen", "bits/dim", *(name.split(":")[0] for name in OOD)]
    head += ["network calls", "images scored per core and second"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows:
        bits = row["bits_per_dim"]
        cells = [row["scales"], f"{row['parameters'] / 1e6:.2f} M", f"{row['cpu_seconds'] / 60:.1f}", row["images"]]
        cells += [f"{bits['mean']:.3f} +- {bits['stderr']:.3f}", *(interval(row, name) for name in OOD)]
        cells += [row["network_calls"], f"{row['scored_images_per_core_second']:.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return REPORT.format(table="\n".join(lines), evaluated=EVALUATED, detected=DETECTED, fitted=FITTED)


def main() -> None:
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "train":
        data = images("cifar10:train[:-5000]")
        for scales in SCALES:
            run(scales, data, folder / f"s{scales}")
    elif command == "measure":
        rows = [measure(folder / f"s{scales}") for scales in sorted(SCALES)]
        print(json.dumps(rows, indent=2))
        Path(sys.argv[3]).write_text(json.dumps(rows, indent=2) + "\n")
    elif command == "report":
        Path(sys.argv[3]).write_text(report(json.loads(folder.read_text())))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
