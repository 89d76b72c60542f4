from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from pcdm_core.detection import (
    CombinationRule,
    EnsembleDetector,
    FeatureLayout,
    MixtureDetector,
    TypicalityDetector,
    combine_p_values,
)
from pcdm_core.detection.combination import log_combined

Features = NDArray[np.float64]
CHEAP = ("bits_per_dim", "typicality")
APART = [[0], [1]]


def draw(n: int, seed: int = 0) -> Features:
    return np.random.default_rng(seed).normal(size=(n, 2))


def cheap(**parameters: Any) -> EnsembleDetector:
    return EnsembleDetector(**{"members": CHEAP, "columns": APART, **parameters})


@pytest.mark.parametrize("rule", ["fisher", "harmonic"])
def test_score_is_the_combination_of_the_members_p_values(rule: CombinationRule) -> None:
    detector, new = cheap(rule=rule).fit(draw(300)), draw(50, seed=1)
    np.testing.assert_array_equal(detector.score_samples(new), log_combined(detector.p_values(new), rule))


def test_members_are_judged_by_rows_that_they_were_not_fitted_on() -> None:
    features = draw(100)
    detector = EnsembleDetector(members=("typicality",), share=0.25, random_state=3).fit(features)
    order = np.random.RandomState(3).permutation(100)
    alone = TypicalityDetector().fit(features[order[25:]])
    np.testing.assert_array_equal(detector.scores_["typicality"], np.sort(-alone.score_samples(features[order[:25]])))


def test_rows_like_those_of_the_fit_are_flagged_no_more_often_than_promised() -> None:
    # Each round fits anew and judges one row, so that the rounds are independent of each other.
    rounds, rng = 600, np.random.default_rng(0)
    p = []
    for _ in range(rounds):
        rows = rng.normal(size=(41, 2))
        p.append(cheap(share=0.475).fit(rows[1:]).p_values(rows[:1])[0])
    for alpha in (0.05, 0.2):
        bound = binom.ppf(1 - 1e-6, rounds, alpha)
        assert (np.array(p) <= alpha).sum(0).max() <= bound
        assert (combine_p_values(p, "fisher") <= alpha).sum() <= bound


def test_a_row_that_is_odder_to_every_member_never_scores_higher() -> None:
    detector = cheap().fit(draw(300))
    distance = np.linspace(0, 4, 60)
    scores = detector.score_samples(np.column_stack((distance, distance + detector.members_["typicality"].location_)))
    assert (np.diff(scores) <= 0).all()
    assert scores[-1] == pytest.approx(-np.log(91))  # beyond all 90 rows kept


def test_each_member_sees_its_own_columns() -> None:
    detector = cheap().fit(draw(300))
    rows = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    smallest = 1 / 91
    p = detector.p_values(rows)
    assert (p[1, 1], p[2, 0]) == (smallest, smallest)
    assert p[1, 0] == p[0, 0] > smallest
    assert p[2, 1] == p[0, 1] > smallest


def test_columns_of_members_are_found_by_name() -> None:
    layout = FeatureLayout(("reconstruction", "norm_scale_1", "bits_per_dim", "error_scale_1"))
    detector = EnsembleDetector.for_layout(layout, members=("bits_per_dim", "mixture", "score_norms"))
    assert layout.places(*detector.kinds).tolist() == [1, 2, 3]
    assert detector.columns == [[1], [0, 2], [0]]


def test_state_of_members_that_see_columns_of_their_own_round_trips() -> None:
    detector, new = cheap(rule="harmonic", alpha=0.1).fit(draw(300)), draw(50, seed=1)
    restored = EnsembleDetector.from_state(json.loads(json.dumps(detector.state())))
    np.testing.assert_array_equal(restored.score_samples(new), detector.score_samples(new))
    assert restored.get_params() == detector.get_params()
    assert restored.state() == detector.state()


def test_an_ensemble_of_one_ranks_as_its_member() -> None:
    features, new = draw(400), draw(100, seed=1)
    detector = EnsembleDetector(members=("mixture",), share=0.5).fit(features)
    member = detector.members_["mixture"]
    assert isinstance(member, MixtureDetector)
    order = np.argsort(member.score_samples(new))
    assert (np.diff(detector.score_samples(new)[order]) >= 0).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"members": ("forest", "typicality")}, "unknown member 'forest'; known: alignment, bits_per_dim"),
        ({"members": ("ensemble", "typicality")}, "unknown member 'ensemble'"),
        ({"members": ()}, "members must be one or more different names"),
        ({"members": ("typicality", "typicality")}, "members must be one or more different names"),
        ({"columns": [[0]]}, "columns must be given for each of 2 members, got 1"),
        ({"columns": [[0], [2]]}, "columns of typicality must be whole numbers from 0 to 1"),
        ({"rule": "cauchy"}, "unknown rule 'cauchy'"),
        ({"share": 1.0}, "share must lie strictly between 0 and 1"),
    ],
)
def test_fit_refuses_wrong_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cheap(**parameters).fit(draw(20))


def changed_member(**change: Any) -> dict[str, Any]:
    first, second = cheap().fit(draw(20)).state()["members"]
    return {"members": [first, second | change]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "must have the keys"),
        ({"alpha": 2.0}, "alpha of the detector state must lie strictly between 0 and 1"),
        ({"share": 0.0}, "share of the detector state must lie strictly between 0 and 1"),
        ({"random_state": 0.5}, "must be whole numbers"),
        ({"rule": "cauchy"}, "unknown rule"),
        ({"members": {"mixture": {}}}, "members of the detector state must be a list of objects"),
        ({"members": [{"name": "mixture"}]}, "must have the keys"),
        (changed_member(name="forest"), "unknown member 'forest'"),
        (changed_member(name="bits_per_dim"), "members must be one or more different names"),
        (changed_member(scores=[2.0, 1.0]), "scores of typicality in the detector state must be ascending"),
        (changed_member(scores=[]), "scores of typicality in the detector state must be one-dim"),
        (changed_member(columns=[0.5]), "columns of typicality in the detector state must be whole numbers"),
        (changed_member(columns=[2]), "columns of typicality must be whole numbers from 0 to 1"),
        (changed_member(columns=[0, 1]), "typicality of the detector state must have 1 columns, got 2"),
        (changed_member(state={}), "must have the keys"),
    ],
)
def test_from_state_refuses_a_wrong_state(change: dict[str, Any], message: str) -> None:
    good = cheap().fit(draw(20)).state()
    EnsembleDetector.from_state(good)
    with pytest.raises(ValueError, match=message):
        EnsembleDetector.from_state(good | change)
