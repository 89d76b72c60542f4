"""The density of a spectrum under Gaussian mixtures, each of some of its features."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, pi
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from pcdm_core.detection._checks import check_rate, finite_vector
from pcdm_core.detection.base import Detector, check_keys

__all__ = ["MixtureDetector"]

_LISTS = ("location", "scale", "subsets", "weights", "means", "whitening")
_NUMBERS = ("alpha", "offset", "n_estimators", "max_features", "n_components", "reg_covar", "random_state")


class MixtureDetector(Detector):
    """Mean log density under several Gaussian mixtures, each of a random subset of the standardised features.

    Spectra of natural images are no single Gaussian: smooth and busy images, dark and bright ones, have means and
    correlations of their own, which a mixture follows and one Mahalanobis distance blurs. A mixture of all features
    has more parameters than a few thousand images can tell, hence the subsets (feature bagging: Lazarevic, Kumar,
    "Feature bagging for outlier detection", KDD 2005).

    ``score_samples(x) = mean_m log p_m(x_m) / max_features``, nats per feature in units of its standard deviation.

    Args:
        alpha: see `Detector`.
        n_estimators: number of mixtures, M.
        max_features: features of each, d; all of them where there are fewer.
        n_components: Gaussians of each, K; the rows of a fit at most, where there are fewer.
        reg_covar: added to every variance, in units of the feature's own.
        random_state: seed of subsets and starts.

    Attributes:
        location_: mean of the fit data, ``[D]``.
        scale_: their standard deviation, ``[D]``.
        subsets_: features of each mixture, ascending, ``[M, d]``.
        weights_: share of each Gaussian, ``[M, K]``.
        means_: ``[M, K, d]``.
        whitening_: inverse of the Cholesky factor of each covariance, lower triangular, ``[M, K, d, d]``.
    """

    location_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    subsets_: NDArray[np.int64]
    weights_: NDArray[np.float64]
    means_: NDArray[np.float64]
    whitening_: NDArray[np.float64]

    def __init__(
        self,
        *,
        alpha: float = 0.05,
        n_estimators: int = 16,
        max_features: int = 20,
        n_components: int = 3,
        reg_covar: float = 0.01,
        random_state: int = 0,
    ) -> None:
        self.alpha = alpha
        self.n_estimators = n_estimators
        self.max_features = max_features
        self.n_components = n_components
        self.reg_covar = reg_covar
        self.random_state = random_state

    def _fit(self, features: NDArray[np.float64]) -> None:
        for name in ("n_estimators", "max_features", "n_components"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.location_, self.scale_ = features.mean(axis=0), features.std(axis=0)
        # Not by the deviation: that of a constant is often not 0 but what rounding left of its mean.
        constant = int((np.ptp(features, axis=0) == 0).sum())
        if constant:
            raise ValueError(f"{constant} of {features.shape[1]} features do not vary: nothing to compare with")
        standard = (features - self.location_) / self.scale_
        rows, columns = standard.shape
        size, components = min(self.max_features, columns), min(self.n_components, rows)
        random = check_random_state(self.random_state)
        self.subsets_ = np.array([np.sort(random.permutation(columns)[:size]) for _ in range(self.n_estimators)])
        mixtures = [
            GaussianMixture(
                components, reg_covar=self.reg_covar, max_iter=500, random_state=random.randint(2**31 - 1)
            ).fit(standard[:, subset])
            for subset in self.subsets_
        ]
        self.weights_ = np.stack([mixture.weights_ for mixture in mixtures])
        self.means_ = np.stack([mixture.means_ for mixture in mixtures])
        upper = np.stack([mixture.precisions_cholesky_ for mixture in mixtures])
        # tril: the triangle that state() writes is all there is.
        self.whitening_ = np.ascontiguousarray(np.tril(upper.swapaxes(-1, -2)))

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        standard = (features - self.location_) / self.scale_
        centred = np.ascontiguousarray(standard[:, self.subsets_][:, :, np.newaxis] - self.means_)
        # One matrix-vector product for each row and Gaussian, so that batch-mates do not change the last bits.
        white = np.matmul(self.whitening_, centred[..., np.newaxis])[..., 0]
        size = self.subsets_.shape[1]
        volume = np.log(self.whitening_.diagonal(axis1=-2, axis2=-1)).sum(axis=-1)
        joint = np.log(self.weights_) + volume - 0.5 * size * log(2 * pi) - 0.5 * np.square(white).sum(axis=-1)
        return np.asarray(logsumexp(joint, axis=2).mean(axis=1) / size, dtype=np.float64)

    def state(self) -> dict[str, Any]:
        """See `Detector.state`.

        Returns:
            The parameters, and the attributes flattened row by row: ``location``, ``scale``, ``subsets``,
            ``weights``, ``means`` and ``whitening`` (lower triangles).
        """
        check_is_fitted(self)
        rows, columns = np.tril_indices(self.subsets_.shape[1])
        arrays = (
            *(self.location_, self.scale_, self.subsets_, self.weights_, self.means_),
            self.whitening_[..., rows, columns],
        )
        numbers = {name: self.offset_ if name == "offset" else getattr(self, name) for name in _NUMBERS}
        return numbers | {name: array.ravel().tolist() for name, array in zip(_LISTS, arrays, strict=True)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.from_state`; deviations, shares and the diagonals of whitening factors must be positive."""
        check_keys(state, {*_LISTS, *_NUMBERS})
        numbers = dict(
            zip(_NUMBERS, finite_vector([state[n] for n in _NUMBERS], "numbers of the detector state"), strict=True)
        )
        check_rate(numbers["alpha"], "alpha of the detector state")
        lists = {name: finite_vector(state[name], f"{name} of the detector state") for name in _LISTS}
        whole = {name: int(numbers[name]) for name in ("n_estimators", "max_features", "n_components", "random_state")}
        if any(numbers[name] != value for name, value in whole.items()):
            raise ValueError(f"{', '.join(whole)} of the detector state must be whole numbers")
        count = whole["n_estimators"]
        columns = lists["location"].size
        size = min(whole["max_features"], columns)
        components = lists["weights"].size // max(1, count)
        expected = {
            "scale": columns,
            "subsets": count * size,
            "weights": count * components,
            "means": count * components * size,
            "whitening": count * components * size * (size + 1) // 2,
        }
        for name, number in expected.items():
            if number < 1 or lists[name].size != number:
                raise ValueError(f"{name} of the detector state must have {number} numbers, got {lists[name].size}")
        subsets = lists["subsets"].astype(np.int64).reshape(count, size)
        if (subsets != lists["subsets"].reshape(count, size)).any() or subsets.min() < 0 or subsets.max() >= columns:
            raise ValueError(f"subsets of the detector state must be whole numbers from 0 to {columns - 1}")
        whitening = np.zeros((count, components, size, size))
        rows, cols = np.tril_indices(size)
        whitening[..., rows, cols] = lists["whitening"].reshape(count, components, -1)
        diagonal = whitening.diagonal(axis1=-2, axis2=-1)
        for name, values in (
            ("scale", lists["scale"]),
            ("weights", lists["weights"]),
            ("diagonal of whitening", diagonal),
        ):
            if not (values > 0).all():
                raise ValueError(f"{name} of the detector state must be positive")
        detector = cls(alpha=float(numbers["alpha"]), reg_covar=float(numbers["reg_covar"]), **whole)
        detector.location_, detector.scale_, detector.subsets_ = lists["location"], lists["scale"], subsets
        detector.weights_ = lists["weights"].reshape(count, components)
        detector.means_, detector.whitening_ = lists["means"].reshape(count, components, size), whitening
        detector.offset_, detector.n_features_in_ = float(numbers["offset"]), columns
        return detector
