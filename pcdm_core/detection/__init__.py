"""From features of images to scores, p-values and a calibration that refuses to be used for anything else.

Words: an OOD *score* is higher for more out-of-distribution; the detectors follow scikit-learn instead, where
``score_samples`` is higher for more normal. `Calibration` is the one place that turns the sign.
"""

from pcdm_core.detection.base import Detector
from pcdm_core.detection.calibration import (
    Calibration,
    CalibrationFileError,
    CalibrationIdentity,
    CalibrationMismatchError,
    JsonScalar,
)
from pcdm_core.detection.comparison import AurocComparison, compare_aurocs
from pcdm_core.detection.conformal import conformal_p_values, conformal_threshold
from pcdm_core.detection.detectors import DETECTORS, detector_class, detector_name
from pcdm_core.detection.discovery import flag_batch, largest_batch
from pcdm_core.detection.groups import group_p_values, group_scores
from pcdm_core.detection.metrics import Interval, OodMetrics, ood_metrics
from pcdm_core.detection.mixture import MixtureDetector
from pcdm_core.detection.rates import RealisedRate, rate_tolerance, realised_rate
from pcdm_core.detection.spectrum import SpectrumDetector

__all__ = [
    "DETECTORS",
    "AurocComparison",
    "Calibration",
    "CalibrationFileError",
    "CalibrationIdentity",
    "CalibrationMismatchError",
    "Detector",
    "Interval",
    "JsonScalar",
    "MixtureDetector",
    "OodMetrics",
    "RealisedRate",
    "SpectrumDetector",
    "compare_aurocs",
    "conformal_p_values",
    "conformal_threshold",
    "detector_class",
    "detector_name",
    "flag_batch",
    "group_p_values",
    "group_scores",
    "largest_batch",
    "ood_metrics",
    "rate_tolerance",
    "realised_rate",
]
