"""What the networks find out about images, before any verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pcdm_core.detection import Detector, FeatureLayout
from pcdm_core.scoring.units import Score

__all__ = ["Findings"]


@dataclass(frozen=True, eq=False)
class Findings:
    """Of images in order: all that a detector and a report need, and that a calibration does not change.

    Attributes:
        layout: what the columns are.
        features: of each image, ``[N, len(layout)]``.
    """

    layout: FeatureLayout
    features: NDArray[np.float64]

    @classmethod
    def of(cls, scores: Sequence[Score], layout: FeatureLayout) -> Self:
        """Those of at least one score, all of one model and fidelity, whose layout it is."""
        return cls(layout, np.stack([score.features for score in scores]))

    @classmethod
    def join(cls, parts: Sequence[Findings]) -> Self:
        """Those of all parts, at least one, in order."""
        return cls(parts[0].layout, np.concatenate([part.features for part in parts]))

    @property
    def bits_per_dim(self) -> NDArray[np.float64]:
        """Bound on ``-log2 p(x)`` per dimension, ``[N]``."""
        return self.layout.select(self.features, ("bits_per_dim",))[:, 0]

    @property
    def terms(self) -> dict[str, NDArray[np.float64]]:
        """What `bits_per_dim` is the sum of, by name, bits/dim, each ``[N]``."""
        places = self.layout.places("reconstruction", "prior", "diffusion")
        return {self.layout.names[place]: np.ascontiguousarray(self.features[:, place]) for place in places}

    def seen_by(self, detector: Detector) -> NDArray[np.float64]:
        """The columns that a detector wants to see, ``[N, D]``."""
        return self.layout.select(self.features, detector.kinds)
