"""The Mahalanobis distance of many features, in a few of their directions and all the rest together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.covariance import LedoitWolf

from pcdm_core.detection._checks import check_counts
from pcdm_core.detection._standard import location_and_scale_of_those_that_vary
from pcdm_core.detection.flat import FlatDetector, check_positive, check_sizes
from pcdm_core.detection.layout import MIDDLE, FeatureKind

__all__ = ["MiddleDetector"]


class MiddleDetector(FlatDetector):
    """Mahalanobis distance of standardised features, meant for what the U-Nets have in their middle.

    Those are hundreds of columns. Of their covariance, shrunk as in Ledoit, Wolf, 2004, the directions of most
    variance are kept; what an image has outside of these is judged by its length alone, with the mean variance there
    (probabilistic principal components: Tipping, Bishop, 1999). Left out, as plain principal components leave it, it
    would hide images that lie far from all that the fit has seen. Up to `n_components` columns nothing is lost.

    ``score_samples(x) = -(sum_k y_k^2 / v_k + (||z||^2 - ||y||^2) / r) / D``, with z the standardised row and y its
    coordinates in the directions kept; about -1 on data like that of the fit.

    Args:
        alpha: see `Detector`.
        n_components: directions that are kept, K; D at most, where there are fewer columns.

    Attributes:
        location_: mean of the fit data, ``[D]``.
        scale_: their standard deviation, ``[D]``; 1 for what does not vary, as a dead channel does.
        directions_: orthonormal, ``[K, D]``.
        variances_: v, descending, ``[K]``.
        rest_: r.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = MIDDLE
    _lists: ClassVar[tuple[str, ...]] = ("location", "scale", "directions", "variances", "rest")

    location_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    directions_: NDArray[np.float64]
    variances_: NDArray[np.float64]
    rest_: float

    def __init__(self, *, alpha: float = 0.05, n_components: int = 64) -> None:
        self.alpha = alpha
        self.n_components = n_components

    def _fit(self, features: NDArray[np.float64]) -> None:
        check_counts(n_components=self.n_components)
        self.location_, self.scale_ = location_and_scale_of_those_that_vary(features)
        standard = (features - self.location_) / self.scale_
        covariance = LedoitWolf(store_precision=False, assume_centered=True).fit(standard).covariance_
        variances, directions = np.linalg.eigh(covariance)
        if variances[0] <= 0:
            raise ValueError("the covariance of the features is singular: too few distinct rows to fit on")
        count = min(self.n_components, features.shape[1])
        self.variances_ = variances[::-1][:count].copy()
        self.directions_ = np.ascontiguousarray(directions.T[::-1][:count])
        rest = variances[: len(variances) - count]
        self.rest_ = float(rest.mean()) if rest.size else 1.0

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        standard = np.ascontiguousarray((features - self.location_) / self.scale_)
        # One matrix-vector product a row, so that batch-mates do not change the last bits.
        along = np.matmul(self.directions_, standard[:, :, np.newaxis])[:, :, 0]
        outside = np.square(standard).sum(axis=1) - np.square(along).sum(axis=1)
        distances = (np.square(along) / self.variances_).sum(axis=1)
        if len(self.variances_) < standard.shape[1]:
            distances = distances + np.maximum(outside, 0.0) / self.rest_
        return np.asarray(-distances / standard.shape[1], dtype=np.float64)

    def _fitted(self) -> dict[str, ArrayLike]:
        return {
            "location": self.location_,
            "scale": self.scale_,
            "directions": self.directions_,
            "variances": self.variances_,
            "rest": self.rest_,
        }

    def _restore(self, lists: Mapping[str, NDArray[np.float64]]) -> None:
        size = lists["location"].size
        count = min(self.n_components, size)
        check_sizes(lists, {"scale": size, "variances": count, "directions": count * size, "rest": 1})
        check_positive({name: lists[name] for name in ("scale", "variances", "rest")})
        self.location_, self.scale_, self.variances_ = lists["location"], lists["scale"], lists["variances"]
        self.directions_, self.rest_ = lists["directions"].reshape(count, size), float(lists["rest"][0])
        self.n_features_in_ = size
