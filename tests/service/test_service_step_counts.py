"""How many steps units take, as it was seen."""

import pytest

from service.step_counts import StepCounts


def test_one_step_is_expected_of_what_was_never_seen() -> None:
    steps = StepCounts()
    steps.learn("x", 7)
    assert steps.expected("y") == 1


def test_the_first_that_is_seen_is_believed() -> None:
    steps = StepCounts()
    steps.learn("x", 7)
    assert steps.expected("x") == 7


def test_what_changes_is_followed() -> None:
    steps = StepCounts()
    for _ in range(20):
        steps.learn("x", 30)
    for _ in range(200):
        steps.learn("x", 10)
    assert steps.expected("x") == pytest.approx(10, abs=0.01)
