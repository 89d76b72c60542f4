"""The `Scorer` seam: plan, run, combine; and where in an image the bits of the bound are."""

from __future__ import annotations

from pcdm_core.scoring.bound_map import BoundMap, bound_map
from pcdm_core.scoring.scorer import CALIBRATION_FILE, CascadeScorer, Precision
from pcdm_core.scoring.units import Fidelity, Score, Scorer, Unit, UnitResult

__all__ = [
    "CALIBRATION_FILE",
    "BoundMap",
    "CascadeScorer",
    "Fidelity",
    "Precision",
    "Score",
    "Scorer",
    "Unit",
    "UnitResult",
    "bound_map",
]
