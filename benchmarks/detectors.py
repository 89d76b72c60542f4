"""Detectors on outliers made from images like those trained on: what each finds, without another data set.

    python benchmarks/detectors.py measure weights/cifar10-haar docs/detectors.json
    python benchmarks/detectors.py report docs/detectors.json docs/detectors.md

The first half of the held-out training images fits each candidate, as `pcdm calibrate --fit` does. Of the second half,
some stand for normal images, and the others are made odd. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from commands import measure_or_report
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from sklearn.metrics import roc_auc_score

from pcdm_core.data import load_array, open_images
from pcdm_core.data.corruptions import CORRUPTIONS
from pcdm_core.detection import Detector, MixtureDetector, SpectrumDetector
from pcdm_core.scoring import FIDELITIES, CascadeScorer, Findings

HELD_OUT, FITTED, NORMAL, ODD = "cifar10:train[-5000:]", 2500, 1000, 107
NODES = FIDELITIES["fast"].nodes
CANDIDATES: dict[str, Detector] = {"spectrum": SpectrumDetector()} | {
    f"mixture, {size} features, K = {components}": MixtureDetector(max_features=size, n_components=components)
    for size in (10, 20, 35, 84)
    for components in (1, 2, 3, 5)
}

Images = NDArray[np.uint8]


def each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Images], Images]:
    def apply(images: Images) -> Images:
        changed = [change(Image.fromarray(image.transpose(1, 2, 0))).convert("RGB") for image in images]
        return np.stack([np.asarray(image).transpose(2, 0, 1) for image in changed])

    return apply


def pixelwise(change: Callable[[NDArray[np.float64]], NDArray[Any]]) -> Callable[[Images], Images]:
    return lambda images: np.ascontiguousarray(np.clip(np.rint(change(images.astype(np.float64))), 0, 255), np.uint8)


def crop(size: int) -> Callable[[Image.Image], Image.Image]:
    low, high = (32 - size) // 2, (32 + size) // 2
    return lambda image: image.crop((low, low, high, high)).resize((32, 32), Image.Resampling.BICUBIC)


RANDOM = np.random.default_rng(0)


def shuffled(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sixteen 8x8 patches of each image in random order."""
    count = len(images)
    patches = images.reshape(count, 3, 4, 8, 4, 8).transpose(0, 2, 4, 1, 3, 5).reshape(count, 16, 3, 8, 8)
    mixed = RANDOM.permuted(np.arange(16)[None].repeat(count, 0), axis=1)
    patches = np.take_along_axis(patches, mixed[:, :, None, None, None], axis=1)
    return patches.reshape(count, 4, 4, 3, 8, 8).transpose(0, 3, 1, 4, 2, 5).reshape(images.shape)


OUTLIERS: dict[str, Callable[[Images], Images]] = {
    "blurred": each(lambda image: CORRUPTIONS["blurred"](image, RANDOM)),
    "half, enlarged": each(crop(16)),
    "three quarters, enlarged": each(crop(24)),
    "JPEG, quality 60": each(lambda image: CORRUPTIONS["jpeg"](image, RANDOM)),
    "grey": each(lambda image: image.convert("L")),
    "colour shifted": pixelwise(lambda x: x + RANDOM.integers(-40, 41, (len(x), 3, 1, 1))),
    "colours swapped": pixelwise(lambda x: x[:, [2, 0, 1]]),
    "inverted": pixelwise(lambda x: 255 - x),
    "half the contrast": pixelwise(lambda x: (x + x.mean((2, 3), keepdims=True)) / 2),
    "mean of two": pixelwise(lambda x: (x + np.roll(x, 1, axis=0)) / 2),
    "patches shuffled": pixelwise(shuffled),
    "upside down": pixelwise(lambda x: x[:, :, ::-1]),
    "turned by 90 degrees": pixelwise(lambda x: np.rot90(x, 1, (2, 3))),
    "noise, 5 levels": pixelwise(lambda x: x + RANDOM.normal(0, 5, x.shape)),
}


def outliers(images: Images, of_each: int) -> dict[str, Images]:
    """So many of each kind, all made of different images."""
    material = np.split(images[: len(OUTLIERS) * of_each], len(OUTLIERS))
    return {kind: change(part) for (kind, change), part in zip(OUTLIERS.items(), material, strict=True)}


def measure(model: Path) -> dict[str, Any]:
    scorer = CascadeScorer.from_pretrained(model, calibrated=False)
    images = load_array(open_images(HELD_OUT), scorer.preprocessing)
    odd = outliers(images[FITTED + NORMAL :], ODD)
    everything = np.concatenate((images[: FITTED + NORMAL], *odd.values()))
    blocks = np.array_split(everything, 100)
    found = [scorer.findings(block, FIDELITIES["fast"]) for block in track(blocks, "scoring")]
    features = Findings.join(found).seen_by(MixtureDetector())
    fit, normal = features[:FITTED], features[FITTED : FITTED + NORMAL]
    sets = dict(zip(OUTLIERS, np.split(features[FITTED + NORMAL :], len(OUTLIERS)), strict=True))
    labels = np.repeat([0, 1], (NORMAL, ODD))

    def auroc(detector: Detector, outliers: NDArray[np.float64]) -> float:
        return float(roc_auc_score(labels, -detector.score_samples(np.concatenate((normal, outliers)))))

    rows = []
    for name, detector in track(CANDIDATES.items(), "candidates"):
        detector.fit(fit)
        found = {outlier: auroc(detector, part) for outlier, part in sets.items()}
        rows.append({"detector": name, "mean_auroc": float(np.mean(list(found.values()))), "auroc": found})
    return {"digest": scorer.digest, "nodes": NODES, "candidates": rows}


REPORT = """# Detectors on synthetic outliers

Made by `benchmarks/detectors.py` with the model of digest `{digest:.12}`. Each candidate was fitted on the spectra
({nodes} noise nodes of each scale) of {fitted:,} training images that the cascade never saw. What is told: single-image
AUROC of {normal:,} further such images against {odd} images of each kind of synthetic outlier, made from yet others;
mean over {kinds} kinds.

| detector | mean AUROC over the synthetic sets |
| --- | --- |
{candidates}

By kind:

| synthetic outliers | {names} |
| --- |{rules}
{kinds_table}

What is odd in meaning only (upside down, inverted) is hardly seen; what is odd in sharpness, noise or
compression is.

`pcdm calibrate --fit` uses the mixture with 20 features and three Gaussians (K = 3) unless told otherwise. **These sets
did not choose it**: on them the single Mahalanobis distance (`--detector spectrum`) is as good or slightly better. The
mixture was preferred for its figures on SVHN, which were in sight when it was tried: 0.990, where the spectrum
detector has 0.980 (`pcdm calibrate COPY --fit DATA --detector spectrum` on a copy of the model's folder, the same
images). Its SVHN figure is that of a detector picked with that set in mind. Other sizes were looked at there too; the
one in use is not the best of them.
"""


def report(document: dict[str, Any]) -> str:
    rows = document["candidates"]
    shown = [row for row in rows if row["detector"] in ("spectrum", "mixture, 20 features, K = 3")]
    return REPORT.format(
        digest=document["digest"],
        nodes=document["nodes"],
        normal=NORMAL,
        odd=ODD,
        fitted=FITTED,
        kinds=len(OUTLIERS),
        candidates="\n".join(f"| {row['detector']} | {row['mean_auroc']:.4f} |" for row in rows),
        names=" | ".join(row["detector"] for row in shown),
        rules=" --- |" * len(shown),
        kinds_table="\n".join(
            f"| {kind} | {' | '.join(format(row['auroc'][kind], '.3f') for row in shown)} |" for kind in OUTLIERS
        ),
    )


if __name__ == "__main__":
    measure_or_report(__doc__, measure, report)
