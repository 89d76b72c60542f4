"""What fits a detector, and what calibrates it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdm_core.cli.console import progress
from pcdm_core.data import ImageSource, image_blocks
from pcdm_core.detection import Calibration, CalibrationIdentity, Detector
from pcdm_core.scoring import CascadeScorer, Fidelity, Findings, FindingsCache

__all__ = ["Halves", "ImageSet", "findings_of", "fitted_calibration", "halves_of"]


@dataclass(frozen=True)
class ImageSet:
    """Images that are open, by the name that they were asked for."""

    name: str
    source: ImageSource


@dataclass(frozen=True)
class Halves:
    """What the networks found in the images that fit a detector, and in those that calibrate it.

    Attributes:
        fit: of the former.
        ranks: of the latter, among whose scores those of new images have their ranks.
        data: names of the sets, for the calibration's provenance.
    """

    fit: Findings
    ranks: Findings
    data: dict[str, str]


def findings_of(
    scorer: CascadeScorer, images: ImageSet, fidelity: Fidelity, cache: Path | None
) -> tuple[list[str], Findings]:
    """Names and findings of all images, read and scored one block at a time, with a progress bar."""
    find: Callable[[NDArray[np.uint8]], Findings] = partial(scorer.findings, fidelity=fidelity)
    if cache is not None:
        find = FindingsCache(cache, scorer, fidelity).findings
    names: list[str] = []
    parts: list[Findings] = []
    with progress(f"scoring {images.name}", len(images.source)) as update:
        for of_block, block in image_blocks(images.source, scorer.preprocessing, scorer.batch_size):
            parts.append(find(block))
            names += of_block
            update(len(names))
    return names, Findings.join(parts)


def halves_of(
    find: Callable[[ImageSet], tuple[list[str], Findings]], fit: ImageSet, calibration_set: ImageSet | None
) -> Halves:
    """All of both sets; the two halves of `fit` where there is no other."""
    found = find(fit)[1]
    if calibration_set is not None:
        names = {"data": fit.name, "calibration_set": calibration_set.name}
        return Halves(found, find(calibration_set)[1], names)
    first, second = np.split(found.features, [len(found.features) // 2])
    return Halves(Findings(found.layout, first), Findings(found.layout, second), {"data": fit.name})


def fitted_calibration(halves: Halves, identity: CalibrationIdentity, detector: Detector) -> Calibration:
    """A calibration of the detector, which is fitted here.

    Raises:
        ValueError: so few images calibrate it that none would ever be flagged.
    """
    fitted, rest = halves.fit.seen_by(detector), halves.ranks.seen_by(detector)
    calibration = Calibration.fit(
        fitted,
        rest,
        identity=identity,
        alpha=detector.alpha,
        detector=detector,
        provenance={**halves.data, "fit_images": len(fitted), "calibration_images": len(rest)},
    )
    if math.isinf(calibration.threshold()):
        raise ValueError(
            f"{len(rest)} calibration images are too few to ever flag at alpha = {detector.alpha}: "
            f"at least {math.ceil(1 / detector.alpha) - 1} are needed"
        )
    return calibration
