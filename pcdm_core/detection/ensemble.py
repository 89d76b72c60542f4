"""Several detectors as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pcdm_core.detection._checks import check_rate, column_places, finite_vector, whole_numbers
from pcdm_core.detection.base import Detector, check_keys
from pcdm_core.detection.combination import CombinationRule, check_rule, log_combined
from pcdm_core.detection.conformal import conformal_p_values
from pcdm_core.detection.layout import FeatureKind, FeatureLayout
from pcdm_core.detection.singles import SINGLES

__all__ = ["EnsembleDetector"]

_KEYS = {"alpha", "offset", "members", "rule", "share", "random_state", "n_features"}
_MEMBER_KEYS = {"name", "columns", "scores", "state"}


class EnsembleDetector(Detector):
    """Members with units of their own, made comparable by conformal p-values and combined.

    A part of the rows is kept from the members' fit. The p-value of a new row is its rank among the scores of these: a
    p-value in the strict sense for each member, see `conformal_p_values`. Members are not independent of each other, so
    what is combined is a score, and the rate at which it flags is for `pcdm_core.detection.Calibration` to set.

    ``score_samples(x) = mean_m log p_m(x)`` by the rule ``fisher``, the log of the harmonic mean by ``harmonic``. In
    [-log(n + 1), 0] with n rows kept: rows that lie beyond all of these for all members score the same.

    Args:
        alpha: see `Detector`.
        members: their names, see `pcdm_core.detection.SINGLES`, each with its default parameters.
        columns: positions that each member sees, in its order; None for all that there are. `for_layout` names those of
            the members' kinds.
        rule: of the combination, see `CombinationRule`.
        share: share of the rows that give the p-values, in (0, 1).
        random_state: seed of the choice of these rows.

    Attributes:
        members_: by name, fitted.
        columns_: of each member, ``[D_m]``.
        scores_: OOD scores of each member on the rows kept from its fit, ascending, ``[n]``.
    """

    members_: dict[str, Detector]
    columns_: dict[str, NDArray[np.int64]]
    scores_: dict[str, NDArray[np.float64]]

    def __init__(
        self,
        *,
        alpha: float = 0.05,
        members: Sequence[str] = ("mixture", "complexity", "scale_typicality"),
        columns: Sequence[Sequence[int]] | None = None,
        rule: CombinationRule = "fisher",
        share: float = 0.3,
        random_state: int = 0,
    ) -> None:
        self.alpha = alpha
        self.members = members
        self.columns = columns
        self.rule = rule
        self.share = share
        self.random_state = random_state

    @property
    def kinds(self) -> tuple[FeatureKind, ...]:
        """Those of all members."""
        return tuple(dict.fromkeys(kind for name in self.members for kind in _member(name).kinds))

    @classmethod
    def for_layout(cls, layout: FeatureLayout, **parameters: Any) -> Self:
        """See `Detector.for_layout`; each member will see the columns of its kinds only."""
        detector = cls(**parameters)
        seen = layout.places(*detector.kinds)
        columns = [np.searchsorted(seen, layout.places(*_member(name).kinds)).tolist() for name in detector.members]
        detector.columns = columns
        return detector

    def p_values(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803 - as in scikit-learn
        """Conformal p-values of each member, ``[N, M]``; raises as `score_samples`."""
        check_is_fitted(self)
        return self._p_values(validate_data(self, X, dtype=np.float64, reset=False))

    def _p_values(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        of_members = [
            conformal_p_values(self.scores_[name], -member.score_samples(features[:, self.columns_[name]]))
            for name, member in self.members_.items()
        ]
        return np.stack(of_members, axis=1)

    def _fit(self, features: NDArray[np.float64]) -> None:
        names = list(self.members)
        check_rule(self.rule)
        check_rate(self.share, "share")
        self.columns_ = self._places(names, features.shape[1])
        order = check_random_state(self.random_state).permutation(len(features))
        kept, fitted = np.split(order, [max(1, round(self.share * len(features)))])
        self.members_, self.scores_ = {}, {}
        for name in names:
            seen = features[:, self.columns_[name]]
            self.members_[name] = _member(name).fit(seen[fitted])
            self.scores_[name] = np.sort(-self.members_[name].score_samples(seen[kept]))

    def _places(self, names: list[str], count: int) -> dict[str, NDArray[np.int64]]:
        """Columns of each member, of `count`."""
        if not names or len(set(names)) < len(names):
            raise ValueError(f"members must be one or more different names, got {names}")
        if self.columns is None:
            return {name: np.arange(count) for name in names}
        if len(self.columns) != len(names):
            raise ValueError(f"columns must be given for each of {len(names)} members, got {len(self.columns)}")
        return {
            name: column_places(own, count, f"columns of {name}") for name, own in zip(names, self.columns, strict=True)
        }

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        return log_combined(self._p_values(features), self.rule)

    def state(self) -> dict[str, Any]:
        """See `Detector.state`.

        Returns:
            The parameters, ``offset``, ``n_features``, and of each member its columns, its sorted scores and its state.
        """
        check_is_fitted(self)
        members = [
            {
                "name": name,
                "columns": self.columns_[name].tolist(),
                "scores": self.scores_[name].tolist(),
                "state": member.state(),
            }
            for name, member in self.members_.items()
        ]
        return {
            "alpha": float(self.alpha),
            "rule": self.rule,
            "share": float(self.share),
            "random_state": int(self.random_state),
            "offset": self.offset_,
            "n_features": self.n_features_in_,
            "members": members,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.from_state`; the members' scores must be ascending."""
        check_keys(state, _KEYS)
        names = ("alpha", "share", "random_state", "offset", "n_features")
        values = finite_vector([state[name] for name in names], "numbers of the detector state")
        alpha, share, seed, offset, count = values.tolist()
        check_rate(alpha, "alpha of the detector state")
        check_rate(share, "share of the detector state")
        check_rule(state["rule"])
        if seed != int(seed) or count != int(count):
            raise ValueError("random_state and n_features of the detector state must be whole numbers")
        members = state["members"]
        if not isinstance(members, list) or not all(isinstance(member, Mapping) for member in members):
            raise ValueError("members of the detector state must be a list of objects")
        for member in members:
            check_keys(member, _MEMBER_KEYS)
        called = [str(member["name"]) for member in members]
        columns = [
            whole_numbers(member["columns"], f"columns of {member['name']} in the detector state") for member in members
        ]
        everything = all(own == list(range(int(count))) for own in columns)
        detector = cls(
            alpha=alpha,
            members=tuple(called),
            columns=None if everything else columns,
            rule=state["rule"],
            share=share,
            random_state=int(seed),
        )
        detector.columns_ = detector._places(called, int(count))
        detector.members_, detector.scores_ = {}, {}
        for name, member in zip(called, members, strict=True):
            restored = type(_member(name)).from_state(member["state"])
            if restored.n_features_in_ != detector.columns_[name].size:
                raise ValueError(
                    f"{name} of the detector state must have {restored.n_features_in_} columns, "
                    f"got {detector.columns_[name].size}"
                )
            scores = finite_vector(member["scores"], f"scores of {name} in the detector state")
            if (np.diff(scores) < 0).any():
                raise ValueError(f"scores of {name} in the detector state must be ascending")
            detector.members_[name], detector.scores_[name] = restored, scores
        detector.offset_, detector.n_features_in_ = offset, int(count)
        return detector


def _member(name: str) -> Detector:
    if name not in SINGLES:
        raise ValueError(f"unknown member {name!r}; known: {', '.join(sorted(SINGLES))}")
    return SINGLES[name]()
