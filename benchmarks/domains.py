"""The same code on images that are no photographs: digits of 8x8 pixels with 17 levels, spectrograms of 32x64.

    python benchmarks/domains.py train runs/domains          # about twelve minutes of one core
    python benchmarks/domains.py measure runs/domains docs   # about four more; writes domains.json
    python benchmarks/domains.py report runs/domains docs    # writes domains.md and domains.png

Three cascades: of all digits, of the digits 0 to 7 alone (which 8 and 9 are then unknown to), of notes. What each is
trained on, what its detector is fitted on, what calibrates it and what it is tested on do not overlap.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import betabinom, binomtest

from pcdm_core.data import Preprocessing, load_array, open_images
from pcdm_core.detection import Calibration, ood_metrics
from pcdm_core.sampling import image_grid, sample_images
from pcdm_core.scoring import CALIBRATION_FILE, CascadeScorer, Fidelity
from pcdm_core.training import Progress, load_config, train

# What `pcdm calibrate --fit` takes unless told otherwise.
DETECTOR, NODES, ALPHA = "mixture", 6, 0.05
EVALUATED, ESTIMATE_NODES, CERTIFIED_NODES = 300, 16, 64
SHEET, STEPS = 16, 100

Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Case:
    """Images of one cascade, uint8 `[N, C, H, W]`.

    Attributes:
        config: Name of the shipped configuration.
        training: What the cascade sees.
        fit: What the detector is fitted on.
        calibration: What its p-values are calibrated on.
        test: Normal images that nothing has seen.
        odd: Images of other kinds, by name.
    """

    config: str
    training: Images
    fit: Images
    calibration: Images
    test: Images
    odd: dict[str, Images]


def read(spec: str, config: str) -> Images:
    channels, height, width = load_config(config).cascade.image_shape
    sizes = {"channels": channels, "height": height, "width": width}
    return load_array(open_images(spec), Preprocessing.model_validate(sizes))


def labels(spec: str) -> NDArray[np.int64]:
    return np.array([item.label for item in open_images(spec)])


ODD_DIGITS: dict[str, Callable[[Images], Images]] = {
    "upside down": lambda x: x[:, :, ::-1],
    "turned by 90 degrees": lambda x: np.rot90(x, 1, (2, 3)),
    "moved by a pixel": lambda x: np.roll(x, 1, 3),
    "blurred": lambda x: np.rint(gaussian_filter(x.astype(float), (0, 0, 0.7, 0.7))).astype(np.uint8),
    "inverted": lambda x: 16 - x,
    "uniform noise": lambda x: np.random.default_rng(0).integers(0, 17, x.shape, dtype=np.uint8),
}


def digits(classes: int) -> Case:
    """Digits below `classes`. Odd are those from there on or, where all are known, what `ODD_DIGITS` makes of them."""
    seen, unseen = load_config("digits").data, "digits[1000:]"
    training, held_out, kind = read(seen, "digits"), read(unseen, "digits"), labels(unseen)
    # Forms of one writer follow one another: without shuffling, other writers would calibrate than are tested.
    order = np.random.default_rng(0).permutation(len(held_out))
    held_out, kind = held_out[order], kind[order]
    fit, calibration, test = np.split(held_out[kind < classes], (250, 450))
    odd = {f"the digit {digit}": held_out[kind == digit] for digit in range(classes, 10)}
    odd = odd or {name: np.ascontiguousarray(change(test)) for name, change in ODD_DIGITS.items()}
    return Case("digits", training[labels(seen) < classes], fit, calibration, test, odd)


def spectrograms() -> Case:
    def window(kind: str, start: int, stop: int) -> Images:
        return read(f"spectrograms:{kind}[{start}:{stop}]", "spectrograms")

    training = read(load_config("spectrograms").data, "spectrograms")
    fit, calibration, test = (window("notes", start, start + 1000) for start in (10_000, 11_000, 12_000))
    odd = {kind: window(kind, 0, 500) for kind in ("bells", "chirps", "clicks", "noise")}
    return Case("spectrograms", training, fit, calibration, test, odd)


CASES: dict[str, Callable[[], Case]] = {
    "digits": lambda: digits(10),
    "digits 0 to 7": lambda: digits(8),
    "spectrograms": spectrograms,
}


def folder_of(runs: Path, name: str) -> Path:
    return runs / name.replace(" ", "-")


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
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")


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
    fidelity = Fidelity(nodes=NODES, rule="time")
    calibration = Calibration.fit(
        *(np.stack([s.features for s in scorer.score(part, fidelity)]) for part in (case.fit, case.calibration)),
        identity=scorer.identity(fidelity, DETECTOR),
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
        **json.loads((folder / "summary.json").read_text()),
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


def draw(cases: dict[str, Case], runs: Path, file: Path) -> None:
    figure, axes = pyplot.subplots(len(cases), 4, figsize=(16, 4 * len(cases)), layout="constrained")
    for (name, case), row in zip(cases.items(), axes, strict=True):
        found = np.load(folder_of(runs, name) / "figure.npz")
        levels = load_config(case.config).cascade.levels
        # Side by side in a square, so that each kind has rows of its own.
        of_each = max(4, len(case.odd)) ** 2 // len(case.odd)
        odd = np.concatenate([images[:of_each] for images in case.odd.values()])
        sheets = {"held out": case.test[:SHEET], "drawn from the cascade": found["samples"], "odd": odd}
        for axis, (title, images) in zip(row, sheets.items(), strict=False):
            axis.imshow(image_grid(images, levels=levels, gap=1)[..., 0], cmap="gray", vmin=0, vmax=255)
            axis.set_title(f"{name}: {title}")
            axis.set_axis_off()
        scores = {kind: found[kind] for kind in ("test", *case.odd)}
        normal = scores["test"]
        # What lies further out than thrice the spread of normal images is counted in the last bin.
        end = normal.max() + 2 * (normal.max() - normal.min())
        bins = np.linspace(normal.min(), end, 50)
        for kind, values in scores.items():
            style = {"color": "black", "lw": 2} if kind == "test" else {"lw": 1.2}
            weights = np.full(len(values), 1 / len(values))
            row[3].hist(np.clip(values, bins[0], bins[-1]), bins, histtype="step", weights=weights, label=kind, **style)
        row[3].set(title=f"{name}: score, higher is odder", ylabel="share of images", yscale="log")
        row[3].legend(fontsize="small")
    figure.savefig(file, dpi=80)


REPORT = """# Images that are no photographs

Made by `benchmarks/domains.py` on one core of an AMD EPYC (Zen 4), PyTorch 2.13.0, with the shipped configurations
`digits` and `spectrograms`. From the first image to the p-value it is the code that photographs pass through.

* **digits**: the handwritten digits of scikit-learn. A pixel has one of 17 values, and the likelihood is that of the
  17-level image. The first 1,000 are trained on; the others, by other writers, are held out and shuffled.
* **digits 0 to 7**: the same without the classes 8 and 9.
* **spectrograms**: log-magnitude spectrograms of synthesised notes (harmonic partials with vibrato and envelopes). The
  other kinds of sound have the same envelopes, loudness and background noise. Bells are a near miss: notes in all but
  their partials, which are not harmonic.

What a cascade is trained on, what its detector is fitted on, what calibrates it and what it is tested on do not
overlap.

{cascades}

## Likelihood

Bits/dim of test images, the first {evaluated} where there are more, with standard errors over images:

* *estimate*: of the bound, with {estimate_nodes} nodes of each scale;
* *certified*: a sum over {certified_nodes} nodes that is itself a bound, in expectation, and looser the fewer they are;
* the last three are exact likelihoods of models without a network on the same test images, fitted on the same training
  images with one added to every count: all values equally likely; each pixel on its own (a histogram for every place);
  each pixel given its left neighbour (one histogram for every value of that neighbour, the same everywhere; the first
  column on its own).

{likelihoods}

In all three the cascade says more than the models without a network, even by its certified bound. With as few as a
thousand digits to learn from, it knows those better than digits of other writers.

## Detection

The default detector of `pcdm calibrate --fit` ({detector}, {nodes} nodes of each scale). Of the test images it flags,
with 95 % Wilson intervals, beside the range in which that share lies 95 times in 100 if test and calibration images
are exchangeable:

{false_alarms}

Single images, test images against odd ones; AUROC with 95 % bootstrap intervals, beside that of bits/dim alone (higher
taken for odder). Of all digits, the odd ones are the test images themselves, changed.

{detection}

What is odd in contrast, stroke or texture is all but always found. What has the right parts in another place (digits
upside down, moved, or of an unknown class; bells) is found less often. Bits/dim alone do as well on digits, and better
on unknown classes; among the sounds they are blind to chirps.

![Held-out images, images drawn from each cascade, odd images, and their scores](domains.png)

Each row is a cascade: held-out images; images drawn from it ({sampling_steps} ancestral steps of each scale); odd
images, kind after kind in the order of the table; scores, where the last bin holds all that lies beyond it.
"""


def span(found: dict[str, float], digits: int = 3) -> str:
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def promised(images: dict[str, int]) -> str:
    """Central 95 % range of the share of test images that is flagged if they and the calibration images are alike."""
    flagging = int(ALPHA * (images["calibration"] + 1))
    low, high = betabinom(images["test"], flagging, images["calibration"] + 1 - flagging).interval(0.95)
    return f"{low / images['test']:.3f} to {high / images['test']:.3f}"


def table(head: list[str], rows: list[list[Any]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, ["---"] * len(head), *rows])


def report(found: dict[str, Any]) -> str:
    def bits(value: dict[str, float]) -> str:
        return f"{value['mean']:.3f} +- {value['stderr']:.3f}"

    cascades = [
        [
            name,
            " x ".join(map(str, row["image_shape"][1:])),
            row["levels"],
            row["scales"],
            f"{row['parameters'] / 1e3:.0f} k",
            f"{row['steps']} of {row['batch_size']} images",
            f"{row['cpu_seconds'] / 60:.1f}",
            " / ".join(f"{count:,}" for count in row["images"].values()),
        ]
        for name, row in found.items()
    ]
    likelihoods = [
        [
            name,
            *(bits(row["bits_per_dim"][kind]) for kind in ("estimate", "certified", "training images")),
            *(f"{value:.3f}" for value in row["baselines"].values()),
        ]
        for name, row in found.items()
    ]
    detection = [
        [
            name,
            kind,
            one["images"],
            span(one["auroc"]),
            span(one["auroc_of_bits_per_dim"]),
            span(one["flagged"]),
        ]
        for name, row in found.items()
        for kind, one in row["sets"].items()
    ]
    false_alarms = [
        [name, row["images"]["calibration"], row["images"]["test"], span(row["flagged"]), promised(row["images"])]
        for name, row in found.items()
    ]
    return REPORT.format(
        cascades=table(
            [
                "cascade",
                "image",
                "levels",
                "S",
                "parameters",
                "steps",
                "core-minutes",
                "training / fit / calibration / test",
            ],
            cascades,
        ),
        likelihoods=table(
            ["cascade", "estimate", "certified", "estimate, training images", *next(iter(found.values()))["baselines"]],
            likelihoods,
        ),
        false_alarms=table(
            ["cascade", "calibration images", "test images", f"flagged at alpha = {ALPHA}", "to be expected"],
            false_alarms,
        ),
        detection=table(
            [
                "cascade",
                "odd images",
                "number",
                "AUROC of the detector",
                "AUROC of bits/dim",
                f"flagged at alpha = {ALPHA}",
            ],
            detection,
        ),
        evaluated=EVALUATED,
        estimate_nodes=ESTIMATE_NODES,
        certified_nodes=CERTIFIED_NODES,
        nodes=NODES,
        detector=DETECTOR,
        sampling_steps=STEPS,
    )


def main() -> None:
    match sys.argv[1:]:
        case ["train", runs]:
            for name, make in CASES.items():
                run(make(), folder_of(Path(runs), name))
        case ["measure", runs, docs]:
            found = {name: measure(make(), folder_of(Path(runs), name)) for name, make in CASES.items()}
            Path(docs, "domains.json").write_text(json.dumps(found, indent=2) + "\n")
        case ["report", runs, docs]:
            Path(docs, "domains.md").write_text(report(json.loads(Path(docs, "domains.json").read_text())))
            draw({name: make() for name, make in CASES.items()}, Path(runs), Path(docs, "domains.png"))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
