"""What the worker process sends."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pcdm_core.scoring import UnitResult
from pcdm_core.scoring.units import FlowState
from service.worker_process import Ran

VALUES = st.integers(0, 3).flatmap(lambda size: arrays(np.float64, size))


def sent(*results: UnitResult) -> list[UnitResult]:
    ran = pickle.loads(pickle.dumps(Ran(list(results)), pickle.HIGHEST_PROTOCOL))
    assert isinstance(ran, Ran)
    return ran.results


@given(st.lists(VALUES, max_size=4))
def test_results_arrive_as_they_were_however_many_values_each_has(values: list[np.ndarray]) -> None:
    heard = sent(*map(UnitResult, values))
    assert len(heard) == len(values)
    for one, own in zip(heard, values, strict=True):
        np.testing.assert_array_equal(one.values, own)
        assert one.state is None


@pytest.mark.parametrize("place", [0, 1])
def test_a_step_of_a_solver_arrives_with_its_state(place: int) -> None:
    results = [UnitResult(np.arange(2.0)), UnitResult(np.arange(2.0))]
    results[place] = UnitResult(np.empty(2), FlowState(np.ones((1, 2, 2), np.float32), 1.0, 2.0, 3.0, 4.0, 5))
    heard = sent(*results)
    state = heard[place].state
    assert state is not None
    assert state.calls == 5
    assert heard[1 - place].state is None


def test_many_results_take_little_room() -> None:
    """Each by itself has a head of about a hundred bytes, which takes longer to read than its values."""
    results = [UnitResult(np.zeros(2)) for _ in range(100)]
    assert len(pickle.dumps(Ran(results), pickle.HIGHEST_PROTOCOL)) < 100 * 16 + 500
