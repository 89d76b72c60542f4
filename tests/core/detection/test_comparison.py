from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pcdm_core.detection import AurocComparison, compare_aurocs

Scores = NDArray[np.float64]
# Few distinct values, so that ties are common.
SCORES = st.integers(-4, 4).map(float)


@st.composite
def two_scores(draw: st.DrawFn) -> tuple[Scores, Scores, Scores, Scores]:
    n_in, n_out = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    return tuple(  # type: ignore[return-value]
        np.array(draw(st.lists(SCORES, min_size=n, max_size=n))) for n in (n_in, n_out, n_in, n_out)
    )


def correlated(n_in: int, n_out: int, *, shifts: tuple[float, float], seed: int = 0) -> tuple[Scores, ...]:
    """Two scores that share half of their variance."""
    rng = np.random.default_rng(seed)
    common_in, common_out = rng.normal(size=n_in), rng.normal(size=n_out)
    return tuple(
        common + rng.normal(size=common.size) + shift
        for first_or_second in shifts
        for common, shift in ((common_in, 0.0), (common_out, first_or_second))
    )


def by_definition(first_in: Scores, first_out: Scores, second_in: Scores, second_out: Scores) -> tuple[float, float]:
    """Difference and standard error from the full matrix of pairs, as DeLong et al. write them."""
    components_in, components_out, aurocs = [], [], []
    for inside, outside in ((first_in, first_out), (second_in, second_out)):
        pairs = (outside[:, None] > inside) + 0.5 * (outside[:, None] == inside)
        components_out.append(pairs.mean(1))
        components_in.append(pairs.mean(0))
        aurocs.append(pairs.mean())
    covariance = np.cov(components_out) / len(first_out) + np.cov(components_in) / len(first_in)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return aurocs[0] - aurocs[1], math.sqrt(max(variance, 0.0))


@settings(deadline=None)
@given(two_scores())
def test_midranks_give_the_numbers_of_the_definition(scores: tuple[Scores, Scores, Scores, Scores]) -> None:
    found = compare_aurocs(*scores)
    assert (found.difference, found.stderr) == pytest.approx(by_definition(*scores), abs=1e-7)


@settings(deadline=None)
@given(two_scores())
def test_aurocs_are_those_of_scikit_learn(scores: tuple[Scores, Scores, Scores, Scores]) -> None:
    found = compare_aurocs(*scores)
    labels = np.repeat([0, 1], [len(scores[0]), len(scores[1])])
    expected = [roc_auc_score(labels, np.concatenate(scores[i : i + 2])) for i in (0, 2)]
    assert (found.first, found.second) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(two_scores())
def test_exchanging_the_scores_turns_the_sign_and_nothing_else(scores: tuple[Scores, Scores, Scores, Scores]) -> None:
    there, back = compare_aurocs(*scores), compare_aurocs(*scores[2:], *scores[:2])
    assert back == AurocComparison(there.second, there.first, -there.difference, there.stderr, there.p_value)


@settings(deadline=None)
@given(two_scores())
def test_only_the_order_of_scores_matters(scores: tuple[Scores, Scores, Scores, Scores]) -> None:
    assert compare_aurocs(*(np.exp(part) for part in scores)) == compare_aurocs(*scores)


@settings(deadline=None)
@given(two_scores())
def test_a_score_does_not_differ_from_itself(scores: tuple[Scores, Scores, Scores, Scores]) -> None:
    found = compare_aurocs(*scores[:2], *scores[:2])
    assert (found.difference, found.stderr, found.p_value) == (0.0, 0.0, 1.0)


def test_standard_error_is_that_of_a_bootstrap() -> None:
    scores = correlated(150, 120, shifts=(1.0, 0.6))
    rng, differences = np.random.default_rng(1), []
    for _ in range(800):
        inside, outside = rng.integers(150, size=150), rng.integers(120, size=120)
        again = (scores[0][inside], scores[1][outside], scores[2][inside], scores[3][outside])
        differences.append(compare_aurocs(*again).difference)
    assert compare_aurocs(*scores).stderr == pytest.approx(np.std(differences), rel=0.1)


def test_p_values_of_equal_scores_are_uniform() -> None:
    p_values = [compare_aurocs(*correlated(60, 60, shifts=(1, 1), seed=seed)).p_value for seed in range(800)]
    shares = [np.mean([p is not None and p <= alpha for p in p_values]) for alpha in (0.05, 0.2, 0.5)]
    # Four binomial standard errors.
    assert shares == pytest.approx([0.05, 0.2, 0.5], abs=4 * math.sqrt(0.25 / 800))
    assert shares[0] < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 800)


def test_a_clear_difference_is_seen_with_its_sign() -> None:
    found = compare_aurocs(*correlated(300, 300, shifts=(0.3, 1.5)))
    assert found.difference < 0
    assert found.p_value is not None
    assert found.p_value < 1e-6


def test_pairing_sharpens_the_comparison() -> None:
    first_in, first_out, second_in, second_out = correlated(200, 200, shifts=(1, 1))
    rng = np.random.default_rng(2)
    unpaired = compare_aurocs(first_in, first_out, rng.permutation(second_in), rng.permutation(second_out))
    assert compare_aurocs(first_in, first_out, second_in, second_out).stderr < 0.9 * unpaired.stderr


def test_a_difference_without_a_standard_error_has_no_p_value() -> None:
    found = compare_aurocs([0.0, 1.0], [2.0, 3.0], [2.0, 3.0], [0.0, 1.0])
    assert (found.difference, found.stderr, found.p_value) == (1.0, 0.0, None)


def test_to_dict_is_json() -> None:
    found = compare_aurocs(*correlated(20, 20, shifts=(1, 1)))
    assert AurocComparison(**json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (([0.0, 1.0], [1.0, 2.0], [0.0, 1.0, 2.0], [1.0, 2.0]), "same in-distribution images, got 2 and 3"),
        (([0.0, 1.0], [1.0, 2.0], [0.0, 1.0], [1.0, 2.0, 3.0]), "same OOD images, got 2 and 3"),
        (([0.0, 1.0], [1.0], [0.0, 1.0], [1.0]), "at least two OOD images, got 1"),
        (([0.0, 1.0], [1.0, 2.0], [0.0, math.nan], [1.0, 2.0]), "second scores of in-distribution images must be fin"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(scores: tuple[list[float], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_aurocs(*scores)
