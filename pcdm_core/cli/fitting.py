"""What fits a detector, and what calibrates it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pcdm_core.cli.console import progress
from pcdm_core.data import ImageSource, image_blocks
from pcdm_core.detection import Calibration, CalibrationIdentity, Detector
from pcdm_core.scoring import CascadeScorer, Fidelity, Findings, FindingsCache

__all__ = ["ImageSet", "Split", "findings_of", "fitted_calibration", "found_blocks"]


@dataclass(frozen=True)
class ImageSet:
    """Images that are open, by the name that they were asked for."""

    name: str
    source: ImageSource


@dataclass(frozen=True)
class Split:
    """What the networks found in the images that fit a detector, and in those that calibrate it.

    Attributes:
        fit: of the former.
        calibration_set: of the latter.
    """

    fit: Findings
    calibration_set: Findings

    @classmethod
    def halves(cls, found: Findings) -> Self:
        """The first half fits, the second calibrates."""
        first, second = np.split(found.features, [len(found.features) // 2])
        return cls(Findings(found.layout, first), Findings(found.layout, second))


def found_blocks(
    scorer: CascadeScorer, images: ImageSet, fidelity: Fidelity, cache: Path | None
) -> Iterator[tuple[list[str], Findings]]:
    """Names and findings of one block of images after another, read and scored as they are asked for.

    Shows a progress bar. Of blocks that the caller lets go nothing stays in memory.
    """
    find: Callable[[NDArray[np.uint8]], Findings] = partial(scorer.findings, fidelity=fidelity)
    if cache is not None:
        find = FindingsCache(cache, scorer, fidelity).findings
    done = 0
    with progress(f"scoring {images.name}", len(images.source)) as update:
        for of_block, block in image_blocks(images.source, scorer.preprocessing, scorer.batch_size):
            yield of_block, find(block)
            done += len(of_block)
            update(done)


def findings_of(
    scorer: CascadeScorer, images: ImageSet, fidelity: Fidelity, cache: Path | None
) -> tuple[list[str], Findings]:
    """Names and findings of all images, as a fit needs them."""
    names, parts = zip(*found_blocks(scorer, images, fidelity, cache), strict=True)
    return list(chain.from_iterable(names)), Findings.join(parts)


def fitted_calibration(
    split: Split, data: Mapping[str, str], identity: CalibrationIdentity, detector: Detector
) -> Calibration:
    """A calibration of the detector, which is fitted here.

    Args:
        split: what fits and what calibrates.
        data: names of the sets, for the provenance.
        identity: of the calibration.
        detector: to be fitted.

    Raises:
        ValueError: so few images calibrate it that none would ever be flagged.
    """
    fitted, rest = split.fit.seen_by(detector), split.calibration_set.seen_by(detector)
    calibration = Calibration.fit(
        fitted,
        rest,
        identity=identity,
        alpha=detector.alpha,
        detector=detector,
        provenance={**data, "fit_images": len(fitted), "calibration_images": len(rest)},
    )
    if math.isinf(calibration.threshold()):
        raise ValueError(
            f"{len(rest)} calibration images are too few to ever flag at alpha = {detector.alpha}: "
            f"at least {math.ceil(1 / detector.alpha) - 1} are needed"
        )
    return calibration
