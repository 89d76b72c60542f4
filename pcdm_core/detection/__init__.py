"""From features of images to scores, p-values and a calibration that refuses to be used for anything else.

Words: an OOD *score* is higher for more out-of-distribution; the detectors follow scikit-learn instead, where
``score_samples`` is higher for more normal. `Calibration` is the one place that turns the sign.
"""

from pcdm_core.detection.alignment_neighbours import AlignmentNeighboursDetector
from pcdm_core.detection.base import Detector
from pcdm_core.detection.calibration import (
    Calibration,
    CalibrationFileError,
    CalibrationIdentity,
    CalibrationMismatchError,
    JsonScalar,
)
from pcdm_core.detection.combination import CombinationRule, combine_p_values
from pcdm_core.detection.comparison import AurocComparison, compare_aurocs
from pcdm_core.detection.conformal import conformal_p_values, conformal_threshold
from pcdm_core.detection.detectors import DETECTORS, detector_class, detector_name, detector_named
from pcdm_core.detection.discovery import flag_batch, largest_batch
from pcdm_core.detection.ensemble import EnsembleDetector
from pcdm_core.detection.groups import group_p_values, group_scores
from pcdm_core.detection.layout import ALIGNMENT, CODECS, MIDDLE, SPECTRUM, FeatureKind, FeatureLayout
from pcdm_core.detection.likelihoods import (
    BitsPerDimDetector,
    ComplexityDetector,
    ScaleRatioDetector,
    ScaleTypicalityDetector,
    TypicalityDetector,
)
from pcdm_core.detection.metrics import Interval, OodMetrics, ood_metrics
from pcdm_core.detection.middle import MiddleDetector
from pcdm_core.detection.mixture import AlignmentDetector, MixtureDetector, ScoreNormsDetector
from pcdm_core.detection.neighbours import NeighboursDetector
from pcdm_core.detection.pooled import PooledAlignmentDetector
from pcdm_core.detection.rates import RealisedRate, rate_tolerance, realised_rate
from pcdm_core.detection.singles import SINGLES
from pcdm_core.detection.spectrum import SpectrumDetector

__all__ = [
    "ALIGNMENT",
    "CODECS",
    "DETECTORS",
    "MIDDLE",
    "SINGLES",
    "SPECTRUM",
    "AlignmentDetector",
    "AlignmentNeighboursDetector",
    "AurocComparison",
    "BitsPerDimDetector",
    "Calibration",
    "CalibrationFileError",
    "CalibrationIdentity",
    "CalibrationMismatchError",
    "CombinationRule",
    "ComplexityDetector",
    "Detector",
    "EnsembleDetector",
    "FeatureKind",
    "FeatureLayout",
    "Interval",
    "JsonScalar",
    "MiddleDetector",
    "MixtureDetector",
    "NeighboursDetector",
    "OodMetrics",
    "PooledAlignmentDetector",
    "RealisedRate",
    "ScaleRatioDetector",
    "ScaleTypicalityDetector",
    "ScoreNormsDetector",
    "SpectrumDetector",
    "TypicalityDetector",
    "combine_p_values",
    "compare_aurocs",
    "conformal_p_values",
    "conformal_threshold",
    "detector_class",
    "detector_name",
    "detector_named",
    "flag_batch",
    "group_p_values",
    "group_scores",
    "largest_batch",
    "ood_metrics",
    "rate_tolerance",
    "realised_rate",
]
