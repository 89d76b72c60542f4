"""What every detector has in common: the conventions of scikit-learn, and a state that is plain JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from typing import Any, ClassVar, Self, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from pcdm_core.detection._checks import check_rate
from pcdm_core.detection.layout import SPECTRUM, FeatureKind, FeatureLayout

__all__ = ["Detector", "check_keys"]


class Detector(OutlierMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """An outlier detector on feature vectors, ``[N, D]`` of finite numbers.

    The score of a row does not depend on the rows next to it, not even in the last bit.

    Of an evaluation a detector sees the columns of its `kinds` only, in the order of the layout, see
    `pcdm_core.detection.FeatureLayout.select`; any other ``[N, D]`` of numbers will do as well.

    Args:
        alpha: wanted in-distribution false-positive rate in (0, 1). It places ``offset_`` at that quantile of the
            scores of the fit, which is a start only: data the detector has seen score too well. Rates that hold
            come from scores of unseen data, see `pcdm_core.detection.Calibration`.

    Attributes:
        offset_: rows that score below it are predicted as outliers.
        n_features_in_: D.
    """

    alpha: float
    offset_: float
    n_features_in_: int

    _kinds: ClassVar[tuple[FeatureKind, ...]] = SPECTRUM
    _min_features: ClassVar[int] = 1

    @property
    def kinds(self) -> tuple[FeatureKind, ...]:
        """The kinds of columns that it wants to see."""
        return self._kinds

    @classmethod
    def for_layout(cls, layout: FeatureLayout, **parameters: Any) -> Self:
        """A detector to be fitted on the columns of its kinds in `layout`.

        Raises:
            ValueError: there are none of some kind.
        """
        detector = cls(**parameters)
        layout.places(*detector.kinds)
        return detector

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002, N803 - names that scikit-learn prescribes
        """Learn what is normal.

        Args:
            X: in-distribution features, ``[N, D]`` with N >= 2.
            y: ignored, there by convention.

        Raises:
            ValueError: `X` has another shape or non-finite values, a parameter is out of range, or the features do
                not vary enough.
        """
        check_rate(self.alpha, "alpha")
        features = validate_data(
            self, X, dtype=np.float64, ensure_min_samples=2, ensure_min_features=self._min_features
        )
        self._fit(features)
        self.offset_ = float(np.quantile(self._scores(features), self.alpha))
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Scores, ``[N]``; higher is more normal. The class tells their unit.

        Raises:
            ValueError: `X` is not ``[N, D]`` or holds non-finite values.
            sklearn.exceptions.NotFittedError: called before `fit`.
        """
        if self._is_plain(X):
            return self._scores(X)
        check_is_fitted(self)
        return self._scores(validate_data(self, X, dtype=np.float64, reset=False))

    def _is_plain(self, X: ArrayLike) -> TypeGuard[NDArray[np.float64]]:  # noqa: N803
        """Whether there is nothing that scikit-learn would refuse or convert: of a few rows, its look takes longest."""
        return (
            type(X) is np.ndarray
            and X.dtype == np.float64
            and X.ndim == 2
            and len(X) > 0
            and X.shape[1] == getattr(self, "n_features_in_", None)
            and not hasattr(self, "feature_names_in_")
            and bool(np.isfinite(X).all())
        )

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """``score_samples(X) - offset_``, ``[N]``: negative for outliers. Raises as `score_samples`."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:  # noqa: N803
        """+1 for inliers, -1 for outliers, ``[N]``. Raises as `score_samples`."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that was fitted, with the parameters, ready for JSON; `from_state` restores it bit for bit.

        Feature names, if the fit had any, are not part of it.

        Raises:
            sklearn.exceptions.NotFittedError: called before `fit`.
        """

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The fitted detector that wrote `state`.

        Raises:
            ValueError: keys are missing or unknown, a number is not finite or out of range, or sizes do not fit
                together.
        """

    @abstractmethod
    def _fit(self, features: NDArray[np.float64]) -> None:
        """Set all that `_scores` needs."""

    @abstractmethod
    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of checked features."""


def check_keys(state: Mapping[str, Any], keys: Set[str]) -> None:
    """Refuse a state of other keys than `keys`.

    Raises:
        ValueError: a key is missing or unknown.
    """
    if state.keys() != keys:
        raise ValueError(f"detector state must have the keys {sorted(keys)}, got {sorted(state)}")
