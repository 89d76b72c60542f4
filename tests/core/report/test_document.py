from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from measured_sets import MeasuredSets

from pcdm_core.report import measurements


@pytest.fixture(scope="module")
def sets() -> MeasuredSets:
    return MeasuredSets()


@pytest.fixture(scope="module")
def document(sets: MeasuredSets) -> Any:
    return measurements(sets.calibration, sets.inside, [sets.far, sets.near])


def test_document_is_json(document: Any) -> None:
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_sets_keep_their_order(document: Any, sets: MeasuredSets) -> None:
    assert [row["source"] for row in document["sets"]] == [sets.far.source, sets.near.source]
    assert document["sets"][0]["auroc"]["value"] > document["sets"][1]["auroc"]["value"]


def test_progress_counts_the_sets(sets: MeasuredSets) -> None:
    done: list[int] = []
    measurements(sets.calibration, sets.inside, [sets.first_of_far(3)] * 2, progress=done.append)
    assert done == [1, 2]


def test_realised_rates_lie_within_their_tolerance(document: Any) -> None:
    assert [rate["alpha"] for rate in document["id"]["rates"]] == [0.01, 0.05, 0.1]
    assert all(abs(rate["rate"] - rate["alpha"]) <= rate["tolerance"] for rate in document["id"]["rates"])


def test_flagged_is_the_realised_rate_at_the_alpha_of_the_calibration(document: Any) -> None:
    assert document["id"]["flagged"] == document["id"]["rates"][1]["rate"]
    assert document["sets"][0]["flagged"] > 0.5


def test_bits_per_dim_is_a_score_of_its_own_and_is_tested_against_the_other(document: Any) -> None:
    # Far images have fewer bits: as a score, bits/dim is worse than chance.
    far = document["sets"][0]
    assert far["bits_per_dim"]["auroc"]["value"] < 0.3
    difference = far["auroc"]["value"] - far["bits_per_dim"]["auroc"]["value"]
    assert far["score_against_bits_per_dim"]["difference"] == pytest.approx(difference)
    assert far["score_against_bits_per_dim"]["p_value"] < 1e-6


def test_groups_are_told_apart_better_the_larger_they_are(document: Any) -> None:
    groups = document["sets"][1]["groups"]
    images = [(group["size"], group["n_in"], group["n_out"]) for group in groups]
    assert images == [(2, 200, 150), (5, 80, 60), (10, 40, 30)]
    aurocs = [group["auroc"]["value"] for group in groups]
    assert document["sets"][1]["auroc"]["value"] < aurocs[0] < aurocs[1] < aurocs[2]


def test_groups_are_flagged_more_often_if_they_are_odd(document: Any) -> None:
    for group in document["sets"][0]["groups"]:
        assert group["flagged_in"] < 0.2
        assert group["flagged_out"] > 0.5


def test_largest_batch_is_that_of_the_calibration(document: Any) -> None:
    assert document["largest_batch"] == {"rate": 0.05, "images": 20}


def test_too_few_images_for_a_figure_leave_it_out(sets: MeasuredSets) -> None:
    document = measurements(sets.calibration, sets.inside, [sets.first_of_far(1)])
    (row,) = document["sets"]
    assert row["score_against_bits_per_dim"] is None
    assert [(group["auroc"], group["flagged_out"], group["n_out"]) for group in row["groups"]] == [(None, None, 0)] * 3
    assert np.isfinite(row["auroc"]["value"])
