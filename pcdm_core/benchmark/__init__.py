"""Detectors beside their peers: the same images, the same preprocessing, one process, one table.

What scores images is a `Row`: `CASCADE_ROWS`, `ACTIVATION_ROWS`, `PIXEL_ROWS` and `classifier_rows` list them, one line
each.
"""

from pcdm_core.benchmark.classifier import Classifier, ClassifierCard, load_classifier, save_classifier
from pcdm_core.benchmark.machine import machine
from pcdm_core.benchmark.material import Material
from pcdm_core.benchmark.peers import PIXEL_ROWS
from pcdm_core.benchmark.published import PUBLISHED, Published
from pcdm_core.benchmark.rows import ACTIVATION_ROWS, CASCADE_ROWS, Need, Row, ScoreImages
from pcdm_core.benchmark.run import Bench
from pcdm_core.benchmark.supervised import classifier_rows
from pcdm_core.benchmark.table import page, readme_block, replaced

__all__ = [
    "ACTIVATION_ROWS",
    "CASCADE_ROWS",
    "PIXEL_ROWS",
    "PUBLISHED",
    "Bench",
    "Classifier",
    "ClassifierCard",
    "Material",
    "Need",
    "Published",
    "Row",
    "ScoreImages",
    "classifier_rows",
    "load_classifier",
    "machine",
    "page",
    "readme_block",
    "replaced",
    "save_classifier",
]
