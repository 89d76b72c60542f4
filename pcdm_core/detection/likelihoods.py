"""Scores made of the likelihood itself, in few numbers: its total, its terms, and what a codec makes of the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcdm_core.detection._standard import location_and_scale
from pcdm_core.detection.flat import FlatDetector, check_positive, check_sizes
from pcdm_core.detection.layout import CODECS, FeatureKind

__all__ = [
    "BitsPerDimDetector",
    "ComplexityDetector",
    "ScaleRatioDetector",
    "ScaleTypicalityDetector",
    "TypicalityDetector",
]


class _StatisticDetector(FlatDetector):
    """Judges one number made of each row: by its size, or by its distance from the mean of the fit.

    Attributes:
        location_: mean of the number over the fit data.
    """

    _lists: ClassVar[tuple[str, ...]] = ("location", "n_features")
    _two_sided: ClassVar[bool] = False

    location_: float

    def __init__(self, *, alpha: float = 0.05) -> None:
        self.alpha = alpha

    @abstractmethod
    def _statistic(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The number of each row, ``[N]``."""

    def _fit(self, features: NDArray[np.float64]) -> None:
        self.location_ = float(self._statistic(features).mean())

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        # Contiguous: strided rows may take another path through vector instructions.
        statistic = self._statistic(np.ascontiguousarray(features))
        return -np.abs(statistic - self.location_) if self._two_sided else -statistic

    def _fitted(self) -> dict[str, ArrayLike]:
        return {"location": self.location_, "n_features": self.n_features_in_}

    def _restore(self, lists: Mapping[str, NDArray[np.float64]]) -> None:
        check_sizes(lists, {"location": 1, "n_features": 1})
        count = int(lists["n_features"][0])
        if count != lists["n_features"][0] or count < self._min_features:
            raise ValueError(
                f"n_features of the detector state must be a whole number, {self._min_features} or more, "
                f"got {lists['n_features'][0]:g}"
            )
        self.location_, self.n_features_in_ = float(lists["location"][0]), count


class BitsPerDimDetector(_StatisticDetector):
    """The likelihood: ``score_samples(x) = -x_0``, where ``x_0``, the first column, is bits/dim of the bound.

    A raw likelihood is a bad score (Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan, "Do deep generative models know
    what they don't know?", ICLR 2019): smooth images are more likely than any the model was trained on. It is what the
    others are measured against.

    Args:
        alpha: see `Detector`.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = ("bits_per_dim",)

    def _statistic(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(features[:, 0], dtype=np.float64)


class TypicalityDetector(BitsPerDimDetector):
    """``score_samples(x) = -|x_0 - m|``, bits/dim, with m the mean bits/dim of the fit.

    Too likely is as odd as too unlikely: in high dimension all images of a distribution have nearly one likelihood
    (Nalisnick, Matsukawa, Teh, Lakshminarayanan, "Detecting out-of-distribution inputs to deep generative models using
    typicality", 2019; for single images, with the empirical mean for the entropy).

    Args:
        alpha: see `Detector`.
    """

    _two_sided: ClassVar[bool] = True


class ComplexityDetector(_StatisticDetector):
    """``score_samples(x) = -(x_0 - min(x_1, ..., x_d))``: minus bits/dim, plus those of the best lossless codec.

    The score of Serrà, Álvarez, Gómez, Slizovskaia, Núñez, Luque, "Input complexity and out-of-distribution detection
    with likelihood-based generative models" (ICLR 2020): the log likelihood ratio of the model and a codec for all
    images, one-sided as there. The first column is bits/dim of the bound, each other one the size of the same image in
    a codec, of which the shortest counts. A codec's header only shifts all scores alike.

    The sizes, and so the scores, are those of the installed versions of the codecs.

    Args:
        alpha: see `Detector`.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = ("bits_per_dim", *CODECS)
    _min_features: ClassVar[int] = 2

    def _statistic(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(features[:, 0] - features[:, 1:].min(axis=1), dtype=np.float64)


class ScaleRatioDetector(_StatisticDetector):
    """How the bits share out between the finest scale and the coarsest, two-sided.

    ``score_samples(x) = -|r - m|`` with ``r = atan2(x_S, x_1)``, radians, and m its mean over the fit: the ratio of the
    last column to the first as an angle, which rises with the ratio, and has a value where a term, being an estimate,
    is not positive. The columns are the diffusion terms, coarse to fine.

    Args:
        alpha: see `Detector`.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = ("diffusion",)
    _min_features: ClassVar[int] = 2
    _two_sided: ClassVar[bool] = True

    def _statistic(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        fine, coarse = (np.ascontiguousarray(features[:, place]) for place in (-1, 0))
        return np.asarray(np.arctan2(fine, coarse), dtype=np.float64)


class ScaleTypicalityDetector(FlatDetector):
    """Typicality of every scale by itself: ``score_samples(x) = -mean_s ((x_s - m_s) / d_s)^2``.

    The columns are the diffusion terms, one of each scale: all of a scale's bits but the small ones of its prior. m and
    d are their means and standard deviations over the fit. An image whose coarse scale is too likely and whose fine
    scale too unlikely has a typical sum; here both count. About -1 on the data of the fit.

    Args:
        alpha: see `Detector`.

    Attributes:
        location_: m, ``[D]``.
        scale_: d, ``[D]``.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = ("diffusion",)
    _lists: ClassVar[tuple[str, ...]] = ("location", "scale")

    location_: NDArray[np.float64]
    scale_: NDArray[np.float64]

    def __init__(self, *, alpha: float = 0.05) -> None:
        self.alpha = alpha

    def _fit(self, features: NDArray[np.float64]) -> None:
        self.location_, self.scale_ = location_and_scale(features)

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        standard = np.ascontiguousarray((features - self.location_) / self.scale_)
        return np.asarray(-np.square(standard).mean(axis=1), dtype=np.float64)

    def _fitted(self) -> dict[str, ArrayLike]:
        return {"location": self.location_, "scale": self.scale_}

    def _restore(self, lists: Mapping[str, NDArray[np.float64]]) -> None:
        check_sizes(lists, {"scale": lists["location"].size})
        check_positive({"scale": lists["scale"]})
        self.location_, self.scale_, self.n_features_in_ = lists["location"], lists["scale"], lists["location"].size
