"""How well a calibrated detector does: figures as plain JSON, as rows of text, and as a page.

The page (`pcdm_core.report.page`) and its charts are imported on their own, as they need matplotlib.
"""

from pcdm_core.report.document import ALPHAS, GROUP_SIZES, measurements
from pcdm_core.report.measured import MeasuredSet
from pcdm_core.report.rows import figure_rows, interval, rate_rows, sentence_on_batches, settings_text

__all__ = [
    "ALPHAS",
    "GROUP_SIZES",
    "MeasuredSet",
    "figure_rows",
    "interval",
    "measurements",
    "rate_rows",
    "sentence_on_batches",
    "settings_text",
]
