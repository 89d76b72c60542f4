"""The `Scorer` seam: plan, run, combine."""

from __future__ import annotations

from pcdm_core.scoring.scorer import CALIBRATION_FILE, CascadeScorer, Precision
from pcdm_core.scoring.units import Fidelity, Score, Scorer, Unit, UnitResult

__all__ = ["CALIBRATION_FILE", "CascadeScorer", "Fidelity", "Precision", "Score", "Scorer", "Unit", "UnitResult"]
