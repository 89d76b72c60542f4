"""What scores images, as rows of one table; and those rows that a cascade makes possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from pcdm_core.benchmark.material import Material
from pcdm_core.detection import DETECTORS, MIDDLE, SPECTRUM, Calibration, detector_named

__all__ = [
    "ACTIVATION_ROWS",
    "CASCADE_ROWS",
    "Need",
    "Row",
    "ScoreImages",
    "View",
    "calibrated_row",
    "isolation_forest",
    "one_class_svm",
    "outliers_of",
    "registered_row",
]

Need = str
"""What a row needs besides the pixels: findings of the ``cascade``, nothing (``pixels``), outputs of a ``classifier``,
or findings at the settings of a further detector, by its name."""

ScoreImages = Callable[[Material], NDArray[np.float64]]
"""OOD scores of a set, ``[N]``, higher for more OOD."""

View = Callable[[Material], NDArray[Any]]
"""Features that a detector works on, ``[N, D]``."""

_NU: Final = 0.05  # share of the images of the fit that may lie outside, as alpha is elsewhere


@dataclass(frozen=True)
class Row:
    """One way of scoring images.

    Attributes:
        name: what the table calls it.
        needs: what it is computed from.
        fit: learns from in-distribution images what is normal, and returns what scores other images.
    """

    name: str
    needs: Need
    fit: Callable[[Material], ScoreImages]

    @property
    def supervised(self) -> bool:
        """Whether it owes anything to labels: all that stands on a classifier does."""
        return self.needs == "classifier"


def outliers_of(make: Callable[[], Any], view: View) -> Callable[[Material], ScoreImages]:
    """The fit of a row from an outlier detector of scikit-learn's conventions.

    Args:
        make: a new detector; its ``score_samples`` is higher for more normal.
        view: its features.
    """

    def fit(of: Material) -> ScoreImages:
        detector = make().fit(view(of))
        return lambda material: -np.asarray(detector.score_samples(view(material)), dtype=np.float64)

    return fit


def isolation_forest() -> IsolationForest:
    """As scikit-learn has it (Liu, Ting, Zhou, "Isolation forest", ICDM 2008)."""
    return IsolationForest(random_state=0)


def one_class_svm() -> Any:
    """As scikit-learn has it, on standardised features (Schölkopf et al., Neural Computation 13, 2001)."""
    return make_pipeline(StandardScaler(), OneClassSVM(nu=_NU))


def registered_row(name: str) -> Row:
    """A detector of `DETECTORS`, with its default parameters."""

    def fit(of: Material) -> ScoreImages:
        detector = detector_named(name, of.findings.layout)
        detector.fit(of.findings.seen_by(detector))
        return lambda material: -detector.score_samples(material.findings.seen_by(detector))

    return Row(name, "cascade", fit)


def spectrum(material: Material) -> NDArray[np.float64]:
    """Log errors and norms of the predicted noise, by scale, noise level and subband."""
    return material.findings.layout.select(material.findings.features, SPECTRUM)


_SEE_ACTIVATIONS: Final = [name for name, kind in DETECTORS.items() if {*MIDDLE} & {*kind().kinds}]

CASCADE_ROWS: Final = (
    *(registered_row(name) for name in DETECTORS if name not in _SEE_ACTIVATIONS),
    Row("spectrum, isolation forest", "cascade", outliers_of(isolation_forest, spectrum)),
    Row("spectrum, one-class SVM", "cascade", outliers_of(one_class_svm, spectrum)),
)
"""What is computed from findings of the cascade, by whatever detector; all fitted on the same images."""

ACTIVATION_ROWS: Final = tuple(map(registered_row, _SEE_ACTIVATIONS))
"""The same from findings with activations, which an evaluation keeps only where the calibrated detector sees them."""


def calibrated_row(calibration: Calibration, *, elsewhere: bool = False) -> Row:
    """The detector of one of a model's own calibrations, on the images that this was fitted on.

    Args:
        calibration: of the model.
        elsewhere: whether it judges at other settings than the model's default detector.
    """
    name = calibration.identity.detector

    def fit(_: Material) -> ScoreImages:
        def score(material: Material) -> NDArray[np.float64]:
            found = material.further[name] if elsewhere else material.findings
            return calibration.scores(found.seen_by(calibration.detector))

        return score

    return Row(f"calibrated detector ({name})", name if elsewhere else "cascade", fit)
