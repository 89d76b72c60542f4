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
from pcdm_core.detection.conformal import conformal_p_values, conformal_threshold
from pcdm_core.detection.detectors import DETECTORS, detector_class, detector_name
from pcdm_core.detection.metrics import Interval, OodMetrics, ood_metrics
from pcdm_core.detection.mixture import MixtureDetector
from pcdm_core.detection.spectrum import SpectrumDetector

__all__ = [
    "DETECTORS",
    "Calibration",
    "CalibrationFileError",
    "CalibrationIdentity",
    "CalibrationMismatchError",
    "Detector",
    "Interval",
    "JsonScalar",
    "MixtureDetector",
    "OodMetrics",
    "SpectrumDetector",
    "conformal_p_values",
    "conformal_threshold",
    "detector_class",
    "detector_name",
    "ood_metrics",
]
