"""How well the networks' noise fits an image, and how near its contents are to those of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from pcdm_core.detection._checks import check_rate, column_places, finite_vector, whole_numbers
from pcdm_core.detection.base import Detector, check_keys
from pcdm_core.detection.layout import ALIGNMENT, MIDDLE, FeatureKind, FeatureLayout
from pcdm_core.detection.neighbours import NeighboursDetector
from pcdm_core.detection.pooled import PooledAlignmentDetector

__all__ = ["AlignmentNeighboursDetector"]

_NUMBERS = ("alpha", "weight", "spread", "offset", "n_features")
_KEYS = {*_NUMBERS, "alignment_columns", "middle_columns", "alignment", "neighbours"}


class AlignmentNeighboursDetector(Detector):
    """Sum of what `PooledAlignmentDetector` and `NeighboursDetector` say, each in standard deviations.

    The one sees what is odd in sharpness, noise, colour or layout, the other what is odd in kind. Weight and parameters
    are those of docs/protocol.md.

    ``score_samples(x) = alignment(x) / s + weight * neighbours(x)``, with s the standard deviation of the former on the
    fit.

    Args:
        alpha: see `Detector`.
        weight: of the neighbours.
        alignment_columns: positions of what the first sees; None for all that there are. `for_layout` finds them.
        middle_columns: of what the second sees; `for_layout` finds those of the coarsest scale.
        pools: of the alignments, see `PooledAlignmentDetector`.
        n_estimators: of the mixtures, see there.

    Attributes:
        alignment_: the first, fitted.
        neighbours_: the second, fitted.
        spread_: s; 1 if all those scores are equal.
        alignment_columns_: positions, ``[D_1]``.
        middle_columns_: positions, ``[D_2]``.
    """

    _kinds: ClassVar[tuple[FeatureKind, ...]] = (*ALIGNMENT, *MIDDLE)

    alignment_: PooledAlignmentDetector
    neighbours_: NeighboursDetector
    spread_: float
    alignment_columns_: NDArray[np.int64]
    middle_columns_: NDArray[np.int64]

    def __init__(
        self,
        *,
        alpha: float = 0.05,
        weight: float = 0.675,
        alignment_columns: Sequence[int] | None = None,
        middle_columns: Sequence[int] | None = None,
        pools: Sequence[int] | None = None,
        n_estimators: int = 64,
    ) -> None:
        self.alpha = alpha
        self.weight = weight
        self.alignment_columns = alignment_columns
        self.middle_columns = middle_columns
        self.pools = pools
        self.n_estimators = n_estimators

    @classmethod
    def for_layout(cls, layout: FeatureLayout, **parameters: Any) -> Self:
        """See `Detector.for_layout`; finds columns and pools."""
        detector = cls(**parameters)
        seen = layout.places(*detector.kinds)
        coarsest = [place for place in layout.places(*MIDDLE) if "_scale_1_" in layout.names[place]]
        detector.alignment_columns = np.searchsorted(seen, layout.places(*ALIGNMENT)).tolist()
        detector.middle_columns = np.searchsorted(seen, coarsest).tolist()
        detector.pools = PooledAlignmentDetector.for_layout(layout).pools
        return detector

    def _fit(self, features: NDArray[np.float64]) -> None:
        if not self.weight >= 0:
            raise ValueError(f"weight must be at least 0, got {self.weight}")
        self._see(features.shape[1])
        aligned = features[:, self.alignment_columns_]
        self.alignment_ = PooledAlignmentDetector(pools=self.pools, n_estimators=self.n_estimators).fit(aligned)
        self.neighbours_ = NeighboursDetector().fit(features[:, self.middle_columns_])
        self.spread_ = float(self.alignment_.score_samples(aligned).std()) or 1.0

    def _see(self, count: int) -> None:
        """Set the columns of both, of `count`."""
        self.alignment_columns_ = column_places(self.alignment_columns, count, "alignment_columns")
        self.middle_columns_ = column_places(self.middle_columns, count, "middle_columns")

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        # Not by score_samples, which would check again what is checked already.
        aligned = self.alignment_._scores(features[:, self.alignment_columns_])
        near = self.neighbours_._scores(features[:, self.middle_columns_])
        return np.asarray(aligned / self.spread_ + self.weight * near, dtype=np.float64)

    def state(self) -> dict[str, Any]:
        """See `Detector.state`.

        Returns:
            ``alpha``, ``weight``, ``spread``, ``offset``, ``n_features``, the columns of both, and the state of each.
        """
        check_is_fitted(self)
        return {
            "alpha": float(self.alpha),
            "weight": float(self.weight),
            "spread": self.spread_,
            "offset": self.offset_,
            "n_features": self.n_features_in_,
            "alignment_columns": self.alignment_columns_.tolist(),
            "middle_columns": self.middle_columns_.tolist(),
            "alignment": self.alignment_.state(),
            "neighbours": self.neighbours_.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.from_state`."""
        check_keys(state, _KEYS)
        values = finite_vector([state[name] for name in _NUMBERS], "numbers of the detector state")
        alpha, weight, spread, offset, count = values.tolist()
        check_rate(alpha, "alpha of the detector state")
        if weight < 0 or spread <= 0:
            raise ValueError("weight of the detector state must be at least 0, and spread positive")
        if count != int(count):
            raise ValueError("n_features of the detector state must be a whole number")
        for name in ("alignment", "neighbours"):
            if not isinstance(state[name], Mapping):
                raise ValueError(f"{name} of the detector state must be an object")
        alignment = PooledAlignmentDetector.from_state(state["alignment"])
        neighbours = NeighboursDetector.from_state(state["neighbours"])
        columns = {
            name: whole_numbers(state[name], f"{name} of the detector state")
            for name in ("alignment_columns", "middle_columns")
        }
        given = {name: None if own == list(range(int(count))) else own for name, own in columns.items()}
        detector = cls(alpha=alpha, weight=weight, pools=alignment.pools, n_estimators=alignment.n_estimators, **given)
        detector.alignment_, detector.neighbours_ = alignment, neighbours
        detector._see(int(count))
        for name, own, part in (
            ("alignment", detector.alignment_columns_, alignment),
            ("neighbours", detector.middle_columns_, neighbours),
        ):
            if own.size != part.n_features_in_:
                raise ValueError(
                    f"{name} of the detector state must have {part.n_features_in_} columns, got {own.size}"
                )
        detector.spread_, detector.offset_, detector.n_features_in_ = spread, offset, int(count)
        return detector
