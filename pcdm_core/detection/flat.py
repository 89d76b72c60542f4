"""Detectors whose fit is some lists of numbers: what they share in writing and reading their state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from pcdm_core.detection._checks import check_rate, finite_vector
from pcdm_core.detection.base import Detector, check_keys

__all__ = ["FlatDetector", "check_positive", "check_sizes"]


class FlatDetector(Detector):
    """A detector whose parameters are numbers, and whose fit is some arrays, written as flat lists.

    A parameter that is None by default is not among those numbers: what the fit makes of it is a list.
    """

    _lists: ClassVar[tuple[str, ...]]
    """Names of the lists that `_fitted` gives."""

    def state(self) -> dict[str, Any]:
        """See `Detector.state`.

        Returns:
            The parameters, ``offset``, and the class's lists.
        """
        check_is_fitted(self)
        parameters = {name: type(default)(getattr(self, name)) for name, default in _parameters(type(self)).items()}
        lists = {name: np.asarray(values).ravel().tolist() for name, values in self._fitted().items()}
        return {**parameters, "offset": self.offset_, **lists}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """See `Detector.from_state`."""
        defaults = _parameters(cls)
        check_keys(state, {*defaults, "offset", *cls._lists})
        names = (*defaults, "offset")
        values = finite_vector([state[name] for name in names], "numbers of the detector state")
        numbers = dict(zip(names, values.tolist(), strict=True))
        check_rate(numbers["alpha"], "alpha of the detector state")
        whole = [name for name, default in defaults.items() if isinstance(default, int)]
        if any(numbers[name] != int(numbers[name]) for name in whole):
            raise ValueError(f"{', '.join(whole)} of the detector state must be whole numbers")
        detector = cls(**{name: type(default)(numbers[name]) for name, default in defaults.items()})
        detector.offset_ = numbers["offset"]
        detector._restore({name: finite_vector(state[name], f"{name} of the detector state") for name in cls._lists})
        return detector

    @abstractmethod
    def _fitted(self) -> Mapping[str, ArrayLike]:
        """All that `_restore` needs, by name; arrays are written row by row."""

    @abstractmethod
    def _restore(self, lists: Mapping[str, NDArray[np.float64]]) -> None:
        """Set all that `_fit` sets, and `n_features_in_`, from what `_fitted` gave: flat, finite, not empty.

        Raises:
            ValueError: a number is out of range, or sizes do not fit together.
        """


def check_sizes(lists: Mapping[str, NDArray[np.float64]], sizes: Mapping[str, int]) -> None:
    """Refuse lists of a state that have other sizes than `sizes`.

    Raises:
        ValueError: names the list, what it should have and what it has.
    """
    for name, size in sizes.items():
        if size < 1 or lists[name].size != size:
            raise ValueError(f"{name} of the detector state must have {size} numbers, got {lists[name].size}")


def check_positive(values: Mapping[str, NDArray[np.float64]]) -> None:
    """Refuse numbers of a state that are not positive.

    Raises:
        ValueError: names them.
    """
    for name, numbers in values.items():
        if not (numbers > 0).all():
            raise ValueError(f"{name} of the detector state must be positive")


def _parameters(cls: type[Detector]) -> dict[str, Any]:
    """Names and defaults of the parameters, whose types are those of the defaults."""
    return {name: default for name, default in cls().get_params(deep=False).items() if default is not None}
