"""All that a score may be computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pcdm_core.benchmark.classifier import Outputs
from pcdm_core.scoring import Findings

__all__ = ["Material", "all_labels"]


@dataclass(frozen=True, eq=False)
class Material:
    """A set of images, with what the networks found out about each.

    Attributes:
        images: as every network sees them, uint8, ``[N, C, H, W]``.
        findings: of the cascade.
        further: the same at the settings of further detectors, by their names, where these are others.
        outputs: of the classifier, or None where there is none.
        labels: classes, ``[N]``, or None where the source has none for some image.
    """

    images: NDArray[np.uint8]
    findings: Findings
    outputs: Outputs | None = None
    labels: NDArray[np.int64] | None = None
    further: Mapping[str, Findings] = field(default_factory=dict)


def all_labels(labels: Sequence[int | None]) -> NDArray[np.int64] | None:
    """Labels of a source as an array, ``[N]``; None if one is missing."""
    known = [label for label in labels if label is not None]
    return np.array(known, dtype=np.int64) if len(known) == len(labels) else None
