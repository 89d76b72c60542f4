"""The `Scorer` seam: plan, run, combine; and where in an image the bits of the bound are."""

from __future__ import annotations

from pcdm_core.scoring.bound_map import BoundMap, bound_map
from pcdm_core.scoring.cache import FindingsCache
from pcdm_core.scoring.calibrations import CALIBRATION_FILE, calibration_file, named_detector
from pcdm_core.scoring.columns import with_activations
from pcdm_core.scoring.evaluator import Precision
from pcdm_core.scoring.execution import Execution
from pcdm_core.scoring.fidelities import FIDELITIES, FidelityName, named_fidelity
from pcdm_core.scoring.findings import Findings
from pcdm_core.scoring.scorer import CascadeScorer
from pcdm_core.scoring.units import Fidelity, Score, Scorer, Unit, UnitResult

__all__ = [
    "CALIBRATION_FILE",
    "FIDELITIES",
    "BoundMap",
    "CascadeScorer",
    "Execution",
    "Fidelity",
    "FidelityName",
    "Findings",
    "FindingsCache",
    "Precision",
    "Score",
    "Scorer",
    "Unit",
    "UnitResult",
    "bound_map",
    "calibration_file",
    "named_detector",
    "named_fidelity",
    "with_activations",
]
