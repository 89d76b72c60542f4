"""A set of images with all that was found out about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

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

    @classmethod
    def join(cls, parts: Sequence[MeasuredSet]) -> Self:
        """All images of one source from the sets of its parts, at least one, in order."""
        first = parts[0]
        return cls(
            first.source,
            [name for part in parts for name in part.names],
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.p_values for part in parts]),
            np.concatenate([part.bits_per_dim for part in parts]),
            {name: np.concatenate([part.terms[name] for part in parts]) for name in first.terms},
            {name: np.concatenate([part.compared[name] for part in parts]) for name in first.compared},
        )

    def __len__(self) -> int:
        return len(self.scores)
