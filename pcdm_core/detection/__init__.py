"""From features of images to scores, p-values and a calibration that refuses to be used for anything else.

Words: an OOD *score* is higher for more out-of-distribution; the detectors follow scikit-learn instead, where
``score_samples`` is higher for more normal. `Calibration` is the one place that turns the sign.
"""

from pcdm_core.detection.calibration import (
    Calibration,
    CalibrationFileError,
    CalibrationIdentity,
    CalibrationMismatchError,
    JsonScalar,
)
from pcdm_core.detection.conformal import conformal_p_values, conformal_threshold
from pcdm_core.detection.detectors import DETECTORS, SpectrumDetector, detector_class, detector_name
from pcdm_core.detection.metrics import Interval, OodMetrics, ood_metrics

__all__ = [
    "DETECTORS",
    "Calibration",
    "CalibrationFileError",
    "CalibrationIdentity",
    "CalibrationMismatchError",
    "Interval",
    "JsonScalar",
    "OodMetrics",
    "SpectrumDetector",
    "conformal_p_values",
    "conformal_threshold",
    "detector_class",
    "detector_name",
    "ood_metrics",
]
