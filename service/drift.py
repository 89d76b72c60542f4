"""Whether the images that come are still those that the model was calibrated for. No clock, no I/O.

A conformal p-value is the rank of an image's score among n calibration scores, divided by n + 1. Images like the
calibration's have each of the n + 1 ranks equally often, so a window of p-values that is spread in another way says
that what comes in has changed, long before anybody looks at single verdicts.

The Kolmogorov-Smirnov statistic is the largest distance between the window's distribution function and that of the
ranks. Both step at ranks only, and are compared after each step: ties, which are the rule here, cost nothing. The
calibration is itself a sample, so its own chance is counted: the test is that of two samples, of the window's size and
the calibration's. Against a uniform law taken as exact, a small calibration would be called drift by itself.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import ks_2samp

__all__ = ["FEWEST_IMAGES", "Drift", "DriftWindow"]

FEWEST_IMAGES: Final = 100
"""A shorter window says too little to be reported."""


@dataclass(frozen=True)
class Drift:
    """How far recent p-values are from those of the calibration's images.

    Attributes:
        statistic: Of Kolmogorov and Smirnov, in [0, 1]; 0 where every rank is equally frequent.
        p_value: Probability of at least as much if nothing has changed, in [0, 1]; asymptotic, and on the large side
            where many images tie.
    """

    statistic: float
    p_value: float


class DriftWindow:
    """The latest p-values of one model.

    Args:
        calibration_size: Calibration scores behind each p-value, n >= 1.
        window: Most p-values kept, at least `FEWEST_IMAGES`.

    Raises:
        ValueError: One of them is less than that.
    """

    def __init__(self, calibration_size: int, *, window: int) -> None:
        if calibration_size < 1:
            raise ValueError(f"a calibration has at least one score, not {calibration_size}")
        if window < FEWEST_IMAGES:
            raise ValueError(f"the window holds {window} images, and needs at least {FEWEST_IMAGES}")
        self._possible = np.arange(1, calibration_size + 2)
        self._ranks: deque[int] = deque(maxlen=window)

    def __len__(self) -> int:
        """Count the p-values in the window."""
        return len(self._ranks)

    def add(self, p_values: Iterable[float]) -> None:
        """Append p-values, and forget as many of the oldest as there is no room for.

        Raises:
            ValueError: One is not in (0, 1], so it is no conformal p-value; none is appended.
        """
        ranks = []
        for p_value in p_values:
            if not (math.isfinite(p_value) and 0 < p_value <= 1):
                raise ValueError(f"a conformal p-value is in (0, 1], not {p_value}")
            # Whole numbers tie exactly, whatever the division by n + 1 was rounded to.
            ranks.append(max(1, round(p_value * len(self._possible))))
        self._ranks.extend(ranks)

    def report(self) -> Drift | None:
        """What the window says; None as long as it holds fewer than `FEWEST_IMAGES`."""
        if len(self._ranks) < FEWEST_IMAGES:
            return None
        # "auto" would count paths of a lattice for small samples, which assumes that nothing ties.
        found = ks_2samp(np.array(self._ranks), self._possible, method="asymp")
        return Drift(float(found.statistic), float(found.pvalue))
