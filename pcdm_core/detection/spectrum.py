"""The Mahalanobis distance of a spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.utils.validation import check_is_fitted

from pcdm_core.detection._checks import check_rate, finite_vector
from pcdm_core.detection.base import Detector, check_keys

__all__ = ["SpectrumDetector"]


class SpectrumDetector(Detector):
    """Mahalanobis distance with the Ledoit-Wolf covariance, meant for the spectrum features of a cascade.

    Those features are the log squared error and the log squared norm of the predicted noise, per scale, noise node
    and subband: the summands of the likelihood bound, kept apart. Any ``[N, D]`` of finite numbers will do.

    ``score_samples(x) = -(x - m)^T C^-1 (x - m) / D``, higher for more normal, about -1 on the data of the fit. The
    covariance C is shrunk towards a multiple of the identity, so N may be smaller than D (Ledoit, Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", 2004).

    Args:
        alpha: see `Detector`.

    Attributes:
        location_: mean of the fit data, ``[D]``.
        whitening_: inverse of the Cholesky factor of C, lower triangular, ``[D, D]``.
    """

    location_: NDArray[np.float64]
    whitening_: NDArray[np.float64]

    def __init__(self, *, alpha: float = 0.05) -> None:
        self.alpha = alpha

    def _fit(self, features: NDArray[np.float64]) -> None:
        estimate = LedoitWolf(store_precision=False).fit(features)
        try:
            factor = np.linalg.cholesky(estimate.covariance_)
        except np.linalg.LinAlgError as error:
            raise ValueError("the covariance of the features is singular: too few distinct rows to fit on") from error
        self.location_ = np.asarray(estimate.location_, dtype=np.float64)
        # The inverse of a lower triangle is one; tril removes what rounding left above the diagonal, so that the
        # triangle that state() writes is all there is.
        self.whitening_ = np.tril(np.linalg.inv(factor))

    def state(self) -> dict[str, Any]:
        """See `Detector.state`.

        Returns:
            ``alpha``, ``offset``, ``location`` (D numbers) and ``whitening`` (the lower triangle row by row,
            D (D + 1) / 2 numbers). Feature names, if the fit had any, are not part of it.
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
        """See `Detector.from_state`; the whitening factor must have a positive diagonal."""
        check_keys(state, {"alpha", "location", "offset", "whitening"})
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
