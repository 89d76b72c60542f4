"""The Mahalanobis distance of a spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import LedoitWolf

from pcdm_core.detection.flat import FlatDetector, check_positive, check_sizes

__all__ = ["SpectrumDetector"]


class SpectrumDetector(FlatDetector):
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

    _lists: ClassVar[tuple[str, ...]] = ("location", "whitening")

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

    def _fitted(self) -> dict[str, ArrayLike]:
        # The lower triangle, row by row.
        return {"location": self.location_, "whitening": self.whitening_[np.tril_indices(self.n_features_in_)]}

    def _restore(self, lists: Mapping[str, NDArray[np.float64]]) -> None:
        size = lists["location"].size
        check_sizes(lists, {"whitening": size * (size + 1) // 2})
        self.location_, self.whitening_ = lists["location"], np.zeros((size, size))
        self.whitening_[np.tril_indices(size)] = lists["whitening"]
        check_positive({"diagonal of whitening": self.whitening_.diagonal()})
        self.n_features_in_ = size

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        # One matrix-vector product a row, not one matrix product: the latter is blocked by the number of rows, and
        # a score would then depend on its batch-mates in the last bits.
        centred = np.ascontiguousarray(features - self.location_)
        white = np.matmul(self.whitening_, centred[:, :, np.newaxis])[:, :, 0]
        distances = np.square(white).sum(axis=1)
        return np.asarray(-distances / self.location_.size, dtype=np.float64)
