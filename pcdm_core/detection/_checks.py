"""Checks of what a caller passes in, shared by the modules of this package."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["check_counts", "check_rate", "column_places", "finite_array", "finite_vector", "whole_numbers"]


def check_counts(**counts: float) -> None:
    """Refuse numbers of something that are below 1.

    Raises:
        ValueError: names the first.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def finite_array(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Real finite numbers of any shape as float64.

    Args:
        values: numbers (integers or floats; nothing is parsed from text).
        name: what to call them in the error.

    Raises:
        ValueError: not numbers, ragged, or a value is NaN or infinite.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers: {error}") from error
    if array.size and array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be numbers, not of type {array.dtype}")
    array = array.astype(np.float64)
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise ValueError(f"{name} must be finite: {bad} of {array.size} values are NaN or infinite")
    return array


def finite_vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """`finite_array` that is also one-dimensional and not empty, shape ``[n]``.

    Raises:
        ValueError: as `finite_array`, or another number of dimensions, or no value at all.
    """
    array = finite_array(values, name)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be one-dimensional and not empty, got shape {array.shape}")
    return array


def whole_numbers(values: ArrayLike, name: str) -> list[int]:
    """`finite_vector` of whole numbers only.

    Raises:
        ValueError: as `finite_vector`, or one is not whole.
    """
    numbers = finite_vector(values, name)
    if (numbers != np.floor(numbers)).any():
        raise ValueError(f"{name} must be whole numbers")
    return [int(number) for number in numbers]


def column_places(columns: Sequence[int] | None, count: int, name: str) -> NDArray[np.int64]:
    """Positions of columns, ``[D]``.

    Args:
        columns: at least one; None for all.
        count: of all columns that there are.
        name: what to call them in the error.

    Raises:
        ValueError: there is none, or one is not there.
    """
    places = np.arange(count) if columns is None else np.array(columns, dtype=np.int64)
    if places.ndim != 1 or not places.size or places.min() < 0 or places.max() >= count:
        raise ValueError(f"{name} must be whole numbers from 0 to {count - 1}, got {places.tolist()}")
    return places


def check_rate(value: float, name: str) -> None:
    """Refuse a rate outside the open interval (0, 1).

    Raises:
        ValueError: `value` is not strictly between 0 and 1 (NaN included).
    """
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
