"""Outlier detectors on feature vectors, with the conventions of scikit-learn and a state that is plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.covariance import LedoitWolf
from sklearn.utils.validation import check_is_fitted, validate_data

from pcdm_core.detection._checks import check_rate, finite_vector

__all__ = ["DETECTORS", "SpectrumDetector", "detector_class", "detector_name"]

_STATE_KEYS = frozenset({"alpha", "location", "offset", "whitening"})


class SpectrumDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Mahalanobis distance with the Ledoit-Wolf covariance, meant for the spectrum features of a cascade.

    Those features are the log squared error and the log squared norm of the predicted noise, per scale, noise node
    and subband: the summands of the likelihood bound, kept apart. Any ``[N, D]`` of finite numbers will do.

    ``score_samples(x) = -(x - m)^T C^-1 (x - m) / D``, higher for more normal, about -1 on the data of the fit. The
    covariance C is shrunk towards a multiple of the identity, so N may be smaller than D (Ledoit, Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004). The score of a row does not
    depend on the rows next to it, not even in the last bit.

    Args:
        alpha: wanted in-distribution false-positive rate in (0, 1). It places ``offset_`` at that quantile of the
            scores of the fit, which is a start only: data the detector has seen score too well. Rates that hold
            come from scores of unseen data, see `pcdm_core.detection.Calibration`.

    Attributes:
        location_: mean of the fit data, ``[D]``.
        whitening_: inverse of the Cholesky factor of C, lower triangular, ``[D, D]``.
        offset_: rows that score below it are predicted as outliers.
        n_features_in_: D.
    """

    location_: NDArray[np.float64]
    whitening_: NDArray[np.float64]
    offset_: float
    n_features_in_: int

    def __init__(self, *, alpha: float = 0.05) -> None:
        self.alpha = alpha

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002, N803 - names that scikit-learn prescribes
        """Estimate mean and covariance.

        Args:
            X: in-distribution features, ``[N, D]`` with N >= 2.
            y: ignored, there by convention.

        Raises:
            ValueError: `X` has another shape or non-finite values, `alpha` is outside (0, 1), or the features do
                not vary enough for a covariance to exist.
        """
        check_rate(self.alpha, "alpha")
        features = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        estimate = LedoitWolf(store_precision=False).fit(features)
        try:
            factor = np.linalg.cholesky(estimate.covariance_)
        except np.linalg.LinAlgError as error:
            raise ValueError("the covariance of the features is singular: too few distinct rows to fit on") from error
        self.location_ = np.asarray(estimate.location_, dtype=np.float64)
        # The inverse of a lower triangle is one; tril removes what rounding left above the diagonal, so that the
        # triangle that state() writes is all there is.
        self.whitening_ = np.tril(np.linalg.inv(factor))
        self.offset_ = float(np.quantile(self._scores(features), self.alpha))
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Minus the squared Mahalanobis distance divided by D, ``[N]``, at most 0; higher is more normal.

        Raises:
            ValueError: `X` is not ``[N, D]`` or holds non-finite values.
            sklearn.exceptions.NotFittedError: called before `fit`.
        """
        check_is_fitted(self)
        return self._scores(validate_data(self, X, dtype=np.float64, reset=False))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """``score_samples(X) - offset_``, ``[N]``: negative for outliers. Raises as `score_samples`."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:  # noqa: N803
        """+1 for inliers, -1 for outliers, ``[N]``. Raises as `score_samples`."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def state(self) -> dict[str, Any]:
        """Everything that was fitted, as JSON-able numbers and lists; `from_state` restores it bit for bit.

        Returns:
            ``alpha``, ``offset``, ``location`` (D numbers) and ``whitening`` (the lower triangle row by row,
            D (D + 1) / 2 numbers). Feature names, if the fit had any, are not part of it.

        Raises:
            sklearn.exceptions.NotFittedError: called before `fit`.
        """
        check_is_fitted(self)
        return {
            "alpha": float(self.alpha),
            "location": self.location_.tolist(),
            "offset": self.offset_,
            "whitening": self.whitening_[np.tril_indices(self.n_features_in_)].tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The fitted detector that wrote `state`.

        Raises:
            ValueError: keys are missing or unknown, a number is not finite, sizes do not fit together, or the
                whitening factor has a diagonal that is not positive.
        """
        if state.keys() != _STATE_KEYS:
            raise ValueError(f"detector state must have the keys {sorted(_STATE_KEYS)}, got {sorted(state)}")
        alpha, offset = finite_vector([state["alpha"], state["offset"]], "alpha and offset of the detector state")
        check_rate(alpha, "alpha of the detector state")
        location = finite_vector(state["location"], "location of the detector state")
        triangle = finite_vector(state["whitening"], "whitening of the detector state")
        size = location.size
        if triangle.size != size * (size + 1) // 2:
            raise ValueError(
                f"whitening of the detector state must have {size * (size + 1) // 2} numbers for {size} features, "
                f"got {triangle.size}"
            )
        whitening = np.zeros((size, size))
        whitening[np.tril_indices(size)] = triangle
        if not (whitening.diagonal() > 0).all():
            raise ValueError("whitening of the detector state must have a positive diagonal")
        detector = cls(alpha=float(alpha))
        detector.location_, detector.whitening_ = location, whitening
        detector.offset_, detector.n_features_in_ = float(offset), size
        return detector

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        # One matrix-vector product a row, not one matrix product: the latter is blocked by the number of rows, and
        # a score would then depend on its batch-mates in the last bits.
        centred = np.ascontiguousarray(features - self.location_)
        white = np.matmul(self.whitening_, centred[:, :, np.newaxis])[:, :, 0]
        distances = np.square(white).sum(axis=1)
        return np.asarray(-distances / self.location_.size, dtype=np.float64)


DETECTORS: Mapping[str, type[SpectrumDetector]] = MappingProxyType({"spectrum": SpectrumDetector})
"""Detectors by the name that calibrations, settings and answers use."""


def detector_class(name: str) -> type[SpectrumDetector]:
    """The detector called `name`.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return DETECTORS[name]
    except KeyError:
        raise ValueError(f"unknown detector {name!r}; known: {', '.join(sorted(DETECTORS))}") from None


def detector_name(detector: SpectrumDetector) -> str:
    """The name under which the class of `detector` is registered.

    Raises:
        ValueError: its class is not in `DETECTORS` (a subclass of a registered one counts as another class).
    """
    for name, registered in DETECTORS.items():
        if type(detector) is registered:
            return name
    raise ValueError(f"{type(detector).__name__} is not a registered detector; known: {', '.join(sorted(DETECTORS))}")
