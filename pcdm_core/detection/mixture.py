"""The density of a spectrum under Gaussian mixtures, each of some of its features."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, pi
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_limits

from pcdm_core.detection._checks import check_counts
from pcdm_core.detection._standard import location_and_scale
from pcdm_core.detection.flat import FlatDetector, check_positive, check_sizes
from pcdm_core.detection.layout import ALIGNMENT, FeatureKind

__all__ = ["AlignmentDetector", "MixtureDetector", "ScoreNormsDetector"]


class MixtureDetector(FlatDetector):
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

    _lists: ClassVar[tuple[str, ...]] = ("location", "scale", "subsets", "weights", "means", "whitening")

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
        check_counts(n_estimators=self.n_estimators, max_features=self.max_features, n_components=self.n_components)
        self.location_, self.scale_ = location_and_scale(features)
        standard = (features - self.location_) / self.scale_
        rows, columns = standard.shape
        size, components = min(self.max_features, columns), min(self.n_components, rows)
        random = check_random_state(self.random_state)
        self.subsets_ = np.array([np.sort(random.permutation(columns)[:size]) for _ in range(self.n_estimators)])
        # Of matrices this small, two threads take ten times as long.
        with threadpool_limits(1, user_api="blas"):
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
        self._keep(np.ascontiguousarray(np.tril(upper.swapaxes(-1, -2))))

    def _keep(self, whitening: NDArray[np.float64]) -> None:
        """Set it, with what the log density of every row has in common, ``[M, K]``."""
        self.whitening_, size = whitening, self.subsets_.shape[1]
        volume = np.log(whitening.diagonal(axis1=-2, axis2=-1)).sum(axis=-1)
        self._common = np.log(self.weights_) + volume - 0.5 * size * log(2 * pi)

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        standard = (features - self.location_) / self.scale_
        centred = np.ascontiguousarray(standard[:, self.subsets_][:, :, np.newaxis] - self.means_)
        # One matrix-vector product for each row and Gaussian, so that batch-mates do not change the last bits.
        white = np.matmul(self.whitening_, centred[..., np.newaxis])[..., 0]
        joint = self._common - 0.5 * np.square(white).sum(axis=-1)
        return np.asarray(np.logaddexp.reduce(joint, axis=2).mean(axis=1) / self.subsets_.shape[1], dtype=np.float64)

    def _fitted(self) -> dict[str, ArrayLike]:
        rows, columns = np.tril_indices(self.subsets_.shape[1])
        return {
            "location": self.location_,
            "scale": self.scale_,
            "subsets": self.subsets_,
            "weights": self.weights_,
            "means": self.means_,
            "whitening": self.whitening_[..., rows, columns],  # lower triangles
        }

    def _restore(self, lists: Mapping[str, NDArray[np.float64]]) -> None:
        count, columns = self.n_estimators, lists["location"].size
        size = min(self.max_features, columns)
        components = lists["weights"].size // max(1, count)
        sizes = {"scale": columns, "subsets": count * size, "weights": count * components}
        sizes |= {"means": sizes["weights"] * size, "whitening": sizes["weights"] * size * (size + 1) // 2}
        check_sizes(lists, sizes)
        subsets = lists["subsets"].astype(np.int64)
        if (subsets != lists["subsets"]).any() or subsets.min() < 0 or subsets.max() >= columns:
            raise ValueError(f"subsets of the detector state must be whole numbers from 0 to {columns - 1}")
        whitening = np.zeros((count, components, size, size))
        whitening[..., *np.tril_indices(size)] = lists["whitening"].reshape(count, components, -1)
        diagonal = whitening.diagonal(axis1=-2, axis2=-1)
        check_positive({"scale": lists["scale"], "weights": lists["weights"], "diagonal of whitening": diagonal})
        self.location_, self.scale_ = lists["location"], lists["scale"]
        self.subsets_ = subsets.reshape(count, size)
        self.weights_ = lists["weights"].reshape(count, components)
        self.means_ = lists["means"].reshape(count, components, size)
        self._keep(whitening)
        self.n_features_in_ = columns


class AlignmentDetector(MixtureDetector):
    """The mixture on the angles between the noise that is left and the prediction, see `FeatureKind`.

    Errors and norms tell smooth images from busy ones, which are normal alike. A network that knows the image's kind
    leaves a residual that is uncorrelated with its prediction for both, see `pcdm_core.scoring.alignment`.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = ALIGNMENT

    # More mixtures, of fewer columns each: docs/protocol.md.
    def __init__(
        self,
        *,
        alpha: float = 0.05,
        n_estimators: int = 64,
        max_features: int = 10,
        n_components: int = 3,
        reg_covar: float = 0.01,
        random_state: int = 0,
    ) -> None:
        super().__init__(
            alpha=alpha,
            n_estimators=n_estimators,
            max_features=max_features,
            n_components=n_components,
            reg_covar=reg_covar,
            random_state=random_state,
        )


class ScoreNormsDetector(MixtureDetector):
    """The mixture on the norms of the predicted noise alone, that is, of the scores of the diffused images.

    ``-eps_hat / sigma`` estimates the score of an image with noise. Its norms at several noise levels are what Mahmood,
    Oliva, Styner, "Multiscale score matching for out-of-distribution detection" (ICLR 2021) fit a density to; here
    there is one of each scale, noise node and subband. Nothing of it knows the image's own noise, as errors do.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = ("norm",)
