"""What the networks find out about images, before any verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pcdm_core.scoring.units import Score

__all__ = ["Findings"]


@dataclass(frozen=True, eq=False)
class Findings:
    """Of images in order: all that a detector and a report need, and that a calibration does not change.

    Attributes:
        bits_per_dim: bound on ``-log2 p(x)`` per dimension, ``[N]``.
        names: of the terms that it is the sum of, see `Score`.
        terms: those, bits/dim, ``[N, len(names)]``.
        features: spectrum of each image, ``[N, D]``.
    """

    bits_per_dim: NDArray[np.float64]
    names: tuple[str, ...]
    terms: NDArray[np.float64]
    features: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Sequence[Score]) -> Self:
        """Those of at least one score, all of one model and fidelity."""
        return cls(
            np.array([score.bits_per_dim for score in scores], dtype=np.float64),
            tuple(scores[0].terms),
            np.array([list(score.terms.values()) for score in scores], dtype=np.float64),
            np.stack([score.features for score in scores]),
        )

    @classmethod
    def join(cls, parts: Sequence[Findings]) -> Self:
        """Those of all parts, at least one, in order."""
        return cls(
            np.concatenate([part.bits_per_dim for part in parts]),
            parts[0].names,
            np.concatenate([part.terms for part in parts]),
            np.concatenate([part.features for part in parts]),
        )
