"""The distance to the nearest images of the fit."""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot, sqrt
from typing import ClassVar, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors

from pcdm_core.detection._checks import check_counts
from pcdm_core.detection._standard import location_and_scale_of_those_that_vary
from pcdm_core.detection.flat import FlatDetector, check_positive, check_sizes
from pcdm_core.detection.layout import MIDDLE, FeatureKind

__all__ = ["NeighboursDetector"]

DIGITS: Final = 2
"""Decimals of a coordinate that are kept: thousands of rows are written down."""

_REACH: Final = (1e-10, 1e15)
"""Between these, single precision has room for a square, and for what rounding takes of it."""


class NeighboursDetector(FlatDetector):
    """Mean distance to the nearest rows of the fit, meant for what the U-Nets have in their middle.

    It knows what images show, as no density of a few Gaussians does: those of a kind lie near one another, but kinds
    have no shape that is simple. (After Sun, Ming, Zhu, Li, "Out-of-distribution detection with deep nearest
    neighbors", ICML 2022, whose features are a classifier's; here there are no labels.) Rows are standardised, and put
    into the directions of most variance, each divided by a power of its standard deviation.

    ``score_samples(x) = -mean distance / s``, with s the standard deviation of the same of the rows of the fit, each to
    the others.

    Args:
        alpha: see `Detector`.
        n_neighbors: how many, k; as many as there are other rows, where there are fewer.
        n_components: directions, K; D at most, or the rows of the fit, where there are fewer.
        whitening: power, in [0, 1]: 0 for principal components as they are, 1 for equal variances.

    Attributes:
        location_: mean of the fit data, ``[D]``.
        scale_: their standard deviation, ``[D]``; 1 for what does not vary.
        directions_: each already divided, ``[K, D]``.
        points_: the rows of the fit in these directions, to two decimals, ``[N, K]``.
        spread_: s; 1 if all those distances are equal.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = MIDDLE
    _lists: ClassVar[tuple[str, ...]] = ("location", "scale", "directions", "points", "spread")

    location_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    directions_: NDArray[np.float64]
    points_: NDArray[np.float64]
    spread_: float

    def __init__(
        self, *, alpha: float = 0.05, n_neighbors: int = 2, n_components: int = 64, whitening: float = 0.5
    ) -> None:
        self.alpha = alpha
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.whitening = whitening

    def _fit(self, features: NDArray[np.float64]) -> None:
        self._check_parameters()
        self.location_, self.scale_ = location_and_scale_of_those_that_vary(features)
        standard = (features - self.location_) / self.scale_
        variances, directions = np.linalg.eigh(standard.T @ standard / len(standard))
        # Those without variance are left out: there is nothing to divide by.
        kept = np.flatnonzero(variances > variances[-1] * 1e-9)[::-1][: self.n_components]
        powers = variances[kept] ** (self.whitening / 2)
        self.directions_ = np.ascontiguousarray(directions.T[kept] / powers[:, np.newaxis])
        self._keep(np.round(standard @ self.directions_.T, DIGITS))
        count = min(self.n_neighbors, len(features) - 1)
        distances, _ = NearestNeighbors(n_neighbors=count).fit(self.points_).kneighbors()
        self.spread_ = float(distances.mean(axis=1).std()) or 1.0

    def _check_parameters(self) -> None:
        check_counts(n_neighbors=self.n_neighbors, n_components=self.n_components)
        if not 0 <= self.whitening <= 1:
            raise ValueError(f"whitening must be in [0, 1], got {self.whitening}")

    def _keep(self, points: NDArray[np.float64]) -> None:
        self.points_ = np.ascontiguousarray(points)
        # Half as many bytes are read in half the time, and of thousands of rows few are near.
        with np.errstate(over="ignore"):
            self._rough = self.points_.astype(np.float32)
            self._squares = np.square(self._rough).sum(axis=1)
        self._farthest = sqrt(self._squares.max())

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        standard = np.ascontiguousarray((features - self.location_) / self.scale_)
        count = min(self.n_neighbors, len(self.points_))
        scores = np.empty(len(standard))
        # Row by row, so that batch-mates do not change the last bits; and not by BLAS, whose threads would take the
        # cores from the networks.
        for place, row in enumerate(standard):
            point = np.einsum("kd,d->k", self.directions_, row)
            near = self.points_[self._candidates(point, count)]
            squares = np.square(near - point).sum(axis=1)
            scores[place] = np.sqrt(np.sort(np.partition(squares, count - 1)[:count])).mean()
        return -scores / self.spread_

    def _candidates(self, point: NDArray[np.float64], count: int) -> NDArray[np.intp]:
        """Rows among which the nearest of a point are, by distances in single precision and what these may be off by.

        A sum of K products is off by at most K units of rounding of the sum of their magnitudes, and rounded factors,
        the square and the difference make it 4 more. (Higham, "Accuracy and Stability of Numerical Algorithms", SIAM
        2002, section 3.1; twice the unit is for what is of higher order.)
        """
        reach = self._farthest + hypot(*point.tolist())
        if not _REACH[0] < reach < _REACH[1]:
            return np.arange(len(self.points_))
        rough = self._squares - 2 * np.einsum("nk,k->n", self._rough, point.astype(np.float32))
        error = (len(point) + 4) * float(np.finfo(np.float32).eps) * reach**2
        return np.flatnonzero(rough <= np.partition(rough, count - 1)[count - 1] + 2 * error)

    def _fitted(self) -> dict[str, ArrayLike]:
        return {
            "location": self.location_,
            "scale": self.scale_,
            "directions": self.directions_,
            "points": self.points_,
            "spread": self.spread_,
        }

    def _restore(self, lists: Mapping[str, NDArray[np.float64]]) -> None:
        self._check_parameters()
        size, count = lists["location"].size, lists["directions"].size
        components = max(1, count // size)
        rows = max(1, lists["points"].size // components)
        check_sizes(lists, {"scale": size, "directions": components * size, "points": rows * components, "spread": 1})
        check_positive({name: lists[name] for name in ("scale", "spread")})
        self.location_, self.scale_ = lists["location"], lists["scale"]
        self.directions_ = lists["directions"].reshape(components, size)
        self._keep(lists["points"].reshape(rows, components))
        self.spread_, self.n_features_in_ = float(lists["spread"][0]), size
