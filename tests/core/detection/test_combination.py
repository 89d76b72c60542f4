from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, combine_pvalues

from pcdm_core.detection import CombinationRule, combine_p_values, conformal_p_values
from pcdm_core.detection.combination import log_combined

RULES: tuple[CombinationRule, ...] = ("fisher", "harmonic")
ROUNDS, NORMAL = 4000, 39
each_rule = pytest.mark.parametrize("rule", RULES)
p_values = st.floats(1e-4, 1.0)


def too_many(alpha: float) -> int:
    """More flags of `ROUNDS` independent rounds than a valid p-value gives once in a million runs."""
    return int(binom.ppf(1 - 1e-6, ROUNDS, alpha))


def conformal(kinds: int, rng: np.random.Generator, *, dependent: bool) -> Any:
    """Conformal p-values of one new row in each round, which has calibration scores of its own."""
    scores = rng.normal(size=(ROUNDS, NORMAL + 1, 1 if dependent else kinds))
    p = [[conformal_p_values(row[1:], row[0]) for row in of_round.T] for of_round in scores]
    return np.broadcast_to(np.array(p), (ROUNDS, kinds))


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize(("rule", "dependent"), [("fisher", False), ("harmonic", False), ("harmonic", True)])
@pytest.mark.parametrize("kinds", [1, 2, 4])
def test_rows_like_those_before_are_flagged_no_more_often_than_promised(
    rule: CombinationRule, dependent: bool, kinds: int, alpha: float
) -> None:
    p = combine_p_values(conformal(kinds, np.random.default_rng(kinds), dependent=dependent), rule)
    assert (p <= alpha).sum() <= too_many(alpha)


def test_fisher_promises_nothing_for_kinds_that_say_the_same() -> None:
    p = combine_p_values(conformal(4, np.random.default_rng(0), dependent=True), "fisher")
    assert (p <= 0.05).sum() > too_many(0.05)


def test_fisher_is_that_of_scipy() -> None:
    p = np.random.default_rng(0).uniform(0.001, 1, (20, 3))
    expected = [combine_pvalues(row, "fisher").pvalue for row in p]
    np.testing.assert_allclose(combine_p_values(p, "fisher"), expected, rtol=1e-10)


@each_rule
@given(st.lists(p_values, min_size=1, max_size=5), st.integers(0, 4), st.floats(0.1, 1.0))
def test_a_smaller_p_value_never_makes_a_larger_one(
    rule: CombinationRule, row: list[float], place: int, factor: float
) -> None:
    smaller = list(row)
    smaller[place % len(row)] *= factor
    for combine in (combine_p_values, log_combined):
        low, high = combine(np.array([smaller, row]), rule)
        assert low <= high * (1 + 1e-12) if combine is combine_p_values else low <= high + 1e-12


@each_rule
def test_one_kind_is_itself(rule: CombinationRule) -> None:
    np.testing.assert_allclose(combine_p_values([[0.25], [1.0]], rule), [0.25, 1.0])


@pytest.mark.parametrize(
    ("p", "rule", "message"),
    [
        ([[0.0, 0.5]], "fisher", r"must lie in \(0, 1\], got 0 to 0.5"),
        ([[0.5, 1.5]], "fisher", r"must lie in \(0, 1\], got 0.5 to 1.5"),
        ([0.5], "fisher", r"must be \[N, M\] with M >= 1, got \[1\]"),
        ([[float("nan")]], "fisher", "p-values must be finite"),
        ([[0.5]], "cauchy", "unknown rule 'cauchy'; known: fisher, harmonic"),
    ],
)
def test_what_is_no_p_value_is_refused(p: Any, rule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine_p_values(p, rule)
