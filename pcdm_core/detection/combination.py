"""One p-value of several for the same image."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from pcdm_core.detection._checks import finite_array

__all__ = ["CombinationRule", "check_rule", "combine_p_values", "log_combined"]

CombinationRule = Literal["fisher", "harmonic"]
"""``fisher``: by the product, a p-value if those combined are independent; all of them count. ``harmonic``: by the
harmonic mean, a p-value whatever their dependence; the smallest counts most."""


def combine_p_values(p_values: ArrayLike, rule: CombinationRule) -> NDArray[np.float64]:
    """One p-value for each row.

    ``fisher``: ``P(chi^2_2M >= -2 sum_m log p_m)`` (Fisher, 1932). ``harmonic``: the harmonic mean times ``e ln M``, at
    most 1 (Vovk, Wang, "Combining p-values via averaging", Biometrika 2020); for M = 2 times 2, as a harmonic mean is
    never below the smallest, and twice the smallest of two is a p-value (Bonferroni).

    Args:
        p_values: of M kinds, in (0, 1], ``[N, M]`` with M >= 1; one column is given back as it is.
        rule: see `CombinationRule`.

    Returns:
        In [0, 1], ``[N]``; never larger for a row of smaller ones.

    Raises:
        ValueError: another shape, a p-value outside (0, 1], or an unknown rule.
    """
    p = finite_array(p_values, "p-values")
    if p.ndim != 2 or p.shape[1] < 1:
        raise ValueError(f"p-values must be [N, M] with M >= 1, got {list(p.shape)}")
    if p.size and (p.min() <= 0 or p.max() > 1):
        raise ValueError(f"p-values must lie in (0, 1], got {p.min():g} to {p.max():g}")
    check_rule(rule)
    count = p.shape[1]
    mean = log_combined(p, rule)
    if count == 1:
        return np.exp(mean)
    if rule == "fisher":
        return np.asarray(chi2.sf(-2 * count * mean, 2 * count), dtype=np.float64)
    return np.minimum(1.0, _factor(count) * np.exp(mean))


def log_combined(p_values: NDArray[np.float64], rule: CombinationRule) -> NDArray[np.float64]:
    """Log of the mean by which a rule combines, the geometric or the harmonic one, ``[N]``; not a p-value's yet.

    Args:
        p_values: in (0, 1], ``[N, M]``.
        rule: see `CombinationRule`.
    """
    p = np.ascontiguousarray(p_values)
    if rule == "fisher":
        return np.asarray(np.log(p).mean(axis=1), dtype=np.float64)
    return np.asarray(-np.log((1 / p).mean(axis=1)), dtype=np.float64)


def check_rule(rule: str) -> None:
    """Refuse a rule that there is none of.

    Raises:
        ValueError: names those that there are.
    """
    if rule not in get_args(CombinationRule):
        raise ValueError(f"unknown rule {rule!r}; known: {', '.join(get_args(CombinationRule))}")


def _factor(count: int) -> float:
    return 2.0 if count == 2 else math.e * math.log(count)
