from __future__ import annotations

from typing import Any

import pytest
from measured_sets import MeasuredSets

from pcdm_core.report import figure_rows, measurements, rate_rows, sentence_on_batches


@pytest.fixture(scope="module")
def sets() -> MeasuredSets:
    return MeasuredSets()


@pytest.fixture(scope="module")
def document(sets: MeasuredSets) -> Any:
    return measurements(sets.calibration, sets.inside, [sets.far, sets.first_of_far(1)])


def test_every_figure_has_a_cell_for_each_set(document: Any) -> None:
    rows = figure_rows(document)
    assert all(len(cells) == 2 for _, cells in rows)
    assert len({name for name, _ in rows}) == len(rows)


def test_the_positive_class_is_named(document: Any) -> None:
    names = [name for name, _ in figure_rows(document) if name.startswith(("FPR", "AUPR"))]
    assert len(names) == 4
    assert all(name.endswith(("OOD positive", "ID positive")) for name in names)


def test_intervals_stand_beside_their_value(document: Any) -> None:
    auroc = document["sets"][0]["auroc"]
    cells = dict(figure_rows(document))["AUROC"]
    assert cells[0] == f"{auroc['value']:.4f} [{auroc['low']:.4f}, {auroc['high']:.4f}]"


def test_a_figure_left_out_is_told(document: Any) -> None:
    rows = dict(figure_rows(document))
    assert rows["AUROC, score minus bits/dim (DeLong)"][1] == "too few images"
    assert rows["AUROC, groups of 10"][1] == "too few images"


@pytest.mark.parametrize(
    ("p_value", "words"), [(0.026, "p = 0.026"), (0.0, "p < 1e-16"), (1e-40, "p < 1e-16"), (None, "no p")]
)
def test_p_value_is_told_as_far_as_it_means_something(document: Any, p_value: float | None, words: str) -> None:
    test = {"difference": -0.25, "stderr": 0.125, "p_value": p_value}
    one = document["sets"][0] | {"score_against_bits_per_dim": test}
    cells = dict(figure_rows({"sets": [one]}))["AUROC, score minus bits/dim (DeLong)"]
    assert cells == [f"-0.2500 +- 0.1250, {words}"]


def test_tolerance_stands_beside_the_realised_rate(document: Any) -> None:
    rate = document["id"]["rates"][1]
    assert rate_rows(document)[1] == ("0.05", f"{rate['rate']:.4f}", f"{rate['tolerance']:.4f}")


def test_sentence_tells_the_largest_batch(document: Any) -> None:
    assert "at most 20 images" in sentence_on_batches(document)
