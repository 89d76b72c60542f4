"""The report of `benchmarks/domains.py`: its tables, its words and its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from commands import table
from domain_cases import (
    ALPHA,
    CERTIFIED_NODES,
    DETECTOR,
    ESTIMATE_NODES,
    EVALUATED,
    FAST,
    SHEET,
    STEPS,
    Case,
    folder_of,
)
from matplotlib import pyplot
from scipy.stats import betabinom

from pcdm_core.sampling import image_grid
from pcdm_core.training import load_config


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
    models = next(iter(found.values()))["baselines"]
    return REPORT.format(
        cascades=table(
            cascades,
            head=[
                "cascade",
                "image",
                "levels",
                "S",
                "parameters",
                "steps",
                "core-minutes",
                "training / fit / calibration / test",
            ],
        ),
        likelihoods=table(
            likelihoods,
            head=["cascade", "estimate", "certified", "estimate, training images", *models],
        ),
        false_alarms=table(
            false_alarms,
            head=["cascade", "calibration images", "test images", f"flagged at alpha = {ALPHA}", "to be expected"],
        ),
        detection=table(
            detection,
            head=[
                "cascade",
                "odd images",
                "number",
                "AUROC of the detector",
                "AUROC of bits/dim",
                f"flagged at alpha = {ALPHA}",
            ],
        ),
        evaluated=EVALUATED,
        estimate_nodes=ESTIMATE_NODES,
        certified_nodes=CERTIFIED_NODES,
        nodes=FAST.nodes,
        detector=DETECTOR,
        sampling_steps=STEPS,
    )
