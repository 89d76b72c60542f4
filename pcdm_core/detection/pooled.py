"""The density of alignments that are averaged over neighbouring noise levels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcdm_core.detection.flat import check_sizes
from pcdm_core.detection.layout import FeatureLayout
from pcdm_core.detection.mixture import AlignmentDetector

__all__ = ["PooledAlignmentDetector"]

_NODE = re.compile(r"_node_(\d+)")


class PooledAlignmentDetector(AlignmentDetector):
    """The mixtures of `AlignmentDetector` on alignments averaged over neighbouring noise levels, for many of these.

    Each cosine has noise of its own, as each noise level has its own draw: the mean of a few neighbours has less of it,
    and leaves the mixtures fewer columns, which a few thousand images tell better. The default parameters are those
    chosen for 20 noise levels, and kept for 10, see docs/protocol.md; where there are no more than `levels`, nothing is
    averaged.

    Args:
        alpha: see `Detector`.
        levels: noise levels that are left of each scale.
        pools: of each column, the number of the pool that it is averaged in, from 0 on; None for a pool of its own
            each. `for_layout` finds them.
        n_estimators: as the following, see `MixtureDetector`.
        max_features: of the pools.
        n_components: see there.
        reg_covar: see there.
        random_state: see there.

    Attributes:
        pools_: pool of each column, ``[D]``.
    """

    _lists: ClassVar[tuple[str, ...]] = ("pools", *AlignmentDetector._lists)

    pools_: NDArray[np.int64]

    def __init__(
        self,
        *,
        alpha: float = 0.05,
        levels: int = 7,
        pools: Sequence[int] | None = None,
        n_estimators: int = 64,
        max_features: int = 20,
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
        self.levels = levels
        self.pools = pools

    @classmethod
    def for_layout(cls, layout: FeatureLayout, **parameters: Any) -> Self:
        """See `Detector.for_layout`; finds the pools."""
        detector = cls(**parameters)
        if detector.levels < 1:
            raise ValueError(f"levels must be at least 1, got {detector.levels}")
        detector.pools = _pools([layout.names[place] for place in layout.places(*detector.kinds)], detector.levels)
        return detector

    def _fit(self, features: NDArray[np.float64]) -> None:
        columns = features.shape[1]
        self._keep_pools(_checked(np.arange(columns) if self.pools is None else np.asarray(self.pools), columns))
        super()._fit(self._pooled(features))

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        return super()._scores(self._pooled(features))

    def _pooled(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        # No matrix product: that is blocked by the number of rows, and batch-mates would change the last bits.
        total = np.zeros((len(features), self._sizes.size))
        for pools, columns in self._turns:
            total[:, pools] += features[:, columns]
        return total / self._sizes

    def _keep_pools(self, pools: NDArray[np.int64]) -> None:
        """Set them, with how they are summed: the first column of each pool, then the second of each, ..."""
        self.pools_, self._sizes = pools, np.bincount(pools)
        columns = np.argsort(pools, kind="stable")
        turns = np.arange(columns.size) - np.repeat(np.cumsum(self._sizes) - self._sizes, self._sizes)
        of_turns = [columns[turns == turn] for turn in range(self._sizes.max())]
        self._turns = [(pools[of_turn], of_turn) for of_turn in of_turns]

    def _fitted(self) -> dict[str, ArrayLike]:
        return {"pools": self.pools_, **super()._fitted()}

    def _restore(self, lists: Mapping[str, NDArray[np.float64]]) -> None:
        rest = dict(lists)
        pools = rest.pop("pools")
        super()._restore(rest)
        whole = pools.astype(np.int64)
        if (whole != pools).any():
            raise ValueError("pools of the detector state must be whole numbers")
        self._keep_pools(_checked(whole, pools.size))
        check_sizes(rest, {"location": int(self.pools_.max()) + 1})
        self.pools = None if np.array_equal(whole, np.arange(whole.size)) else whole.tolist()
        self.n_features_in_ = whole.size


def _pools(names: Sequence[str], levels: int) -> list[int]:
    """The pool of each column, with others that differ in the noise node only; so many neighbours as leave `levels`."""
    nodes = [int(found.group(1)) if (found := _NODE.search(name)) else 0 for name in names]
    count = max(nodes) + 1
    left = min(levels, count)
    keys = [(_NODE.sub("", name), node * left // count) for name, node in zip(names, nodes, strict=True)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _checked(pools: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    largest = int(pools.max(initial=0))
    if pools.shape != (columns,) or largest >= columns or set(pools.tolist()) != set(range(largest + 1)):
        raise ValueError(f"pools must be {columns} whole numbers, each from 0 to the largest among them")
    return pools
