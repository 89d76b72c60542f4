"""How well a calibrated detector does: the figures, as a document of plain JSON."""

from pcdm_core.report.document import ALPHAS, GROUP_SIZES, measurements
from pcdm_core.report.measured import MeasuredSet
from pcdm_core.report.rows import figure_rows, rate_rows, sentence_on_batches

__all__ = [
    "ALPHAS",
    "GROUP_SIZES",
    "MeasuredSet",
    "figure_rows",
    "measurements",
    "rate_rows",
    "sentence_on_batches",
]
