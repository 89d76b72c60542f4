import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdm_core.likelihood import embedded_weights, gauss_legendre, noise_levels
from pcdm_core.model import NoiseSchedule

SCHEDULE = NoiseSchedule(-13.3, 5.0, 2, 16)
with torch.no_grad():
    SCHEDULE.logits.copy_(torch.randn(2, 16, generator=torch.Generator().manual_seed(1)))


@given(st.integers(2, 40), st.integers(0, 19))
def test_embedded_rule_is_exact_for_polynomials(nodes: int, degree: int) -> None:
    degree = min(degree, (nodes + 1) // 2 - 1)
    value = float(embedded_weights(nodes) @ gauss_legendre(nodes)[0] ** degree)
    assert value == pytest.approx(1 / (degree + 1), abs=1e-9)


@pytest.mark.parametrize("nodes", [2, 7, 16, 1000])
def test_embedded_rule_leaves_every_second_node_out(nodes: int) -> None:
    weights = embedded_weights(nodes)
    assert (weights[1::2] == 0).all()
    assert (weights[::2] > 0).all()


def test_one_node_has_no_embedded_rule() -> None:
    with pytest.raises(ValueError, match="at least 2 nodes"):
        embedded_weights(1)
    assert noise_levels(SCHEDULE, 1, "bound", 1).embedded is None


def test_weights_of_the_bound_cover_all_noise_levels() -> None:
    levels = noise_levels(SCHEDULE, 1, "bound", 12)
    assert levels.weights.sum() == pytest.approx(18.3, rel=1e-9)
    assert (np.diff(levels.gamma) > 0).all()
    assert -13.3 < levels.gamma[0] < levels.gamma[-1] < 5.0


@pytest.mark.parametrize("center", [-13.0, -8.0, 0.0])
def test_few_nodes_integrate_the_fall_of_the_error(center: float) -> None:
    # ||eps - eps_hat||^2 of a Gaussian with one variance is logistic in gamma.
    levels = noise_levels(SCHEDULE, 1, "bound", 16)
    value = float((levels.weights / (1 + np.exp(levels.gamma - center))).sum())
    exact = float(np.log1p(np.exp(center + 13.3)) - np.log1p(np.exp(center - 5.0)))
    assert value == pytest.approx(exact, abs=0.002)


def test_nodes_of_the_bound_do_not_ask_the_schedule() -> None:
    one, other = (noise_levels(SCHEDULE, scale, "bound", 7) for scale in (1, 2))
    assert np.array_equal(one.gamma, other.gamma)
    assert np.array_equal(one.weights, other.weights)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("nodes", [1, 2, 10])
def test_certified_levels_are_the_ends_of_equal_times(scale: int, nodes: int) -> None:
    levels = noise_levels(SCHEDULE, scale, "certified", nodes)
    expected = SCHEDULE(scale, torch.arange(1, nodes + 1) / nodes)[0]
    np.testing.assert_allclose(levels.gamma, expected, rtol=1e-5)
    assert levels.gamma[-1] == pytest.approx(5.0, abs=1e-4)
    # Products telescope: all steps together take the signal-to-noise ratio from one end to the other.
    assert np.log1p(levels.weights).sum() == pytest.approx(18.3, abs=1e-4)
    assert levels.embedded is None


def test_certified_weights_are_never_below_those_of_the_integral() -> None:
    levels = noise_levels(SCHEDULE, 1, "certified", 50)
    assert levels.weights.sum() > 18.3
