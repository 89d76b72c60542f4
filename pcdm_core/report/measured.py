"""A set of images with all that was found out about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["MeasuredSet"]


@dataclass(frozen=True, eq=False)
class MeasuredSet:
    """Scores of the images of one source, all in the source's order.

    Attributes:
        source: specification of the source, as it was given.
        names: of the images, for a reader, ``[N]``.
        scores: OOD scores, higher for more OOD, ``[N]``.
        p_values: conformal p-values of the scores, ``[N]``.
        bits_per_dim: the bound on the negative log-likelihood, bits per dimension, ``[N]``.
        terms: what `bits_per_dim` is the sum of, by name, each ``[N]``.
        compared: OOD scores by other detectors, by name, each ``[N]``.
    """

    source: str
    names: Sequence[str]
    scores: NDArray[np.float64]
    p_values: NDArray[np.float64]
    bits_per_dim: NDArray[np.float64]
    terms: Mapping[str, NDArray[np.float64]]
    compared: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)
