"""How far a step of the flow goes."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdm_core.likelihood.ode import State
from pcdm_core.likelihood.path import FlowPath, advance

START, END, TOLERANCE = -13.0, 5.0, 1e-4


def after_a_step(z: Tensor, width: float) -> FlowPath:
    """Of ``dz / dgamma = z^2 / 10``, which has an error at every step."""

    def field(state: State, gamma: Tensor) -> State:
        del gamma
        return state[0].square() / 10, state[0].flatten(1).sum(1).double() / 10

    return advance(field, FlowPath.start(z, START, width), (START, END), z[0].numel(), TOLERANCE)


def images() -> Tensor:
    return torch.linspace(0.2, 1.4, 40, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_the_next_step_does_not_follow_rounding() -> None:
    noise = 1 + 1e-6 * torch.randn(images().shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, disturbed = after_a_step(images(), 1.0), after_a_step(images() * noise, 1.0)
    assert not torch.equal(plain.error, disturbed.error)
    assert torch.equal(plain.width, disturbed.width)


def test_the_next_step_fits_its_own_error() -> None:
    widths = after_a_step(images(), 1.0).width
    assert (widths.diff() <= 0).all()
    assert float(widths[0]) > 1 > float(widths[-1])


def test_a_step_that_errs_too_much_is_taken_again_shorter() -> None:
    path = after_a_step(images(), 6.0)
    stayed = path.gamma == START
    assert stayed.any()
    assert (path.width[stayed] < 6.0).all()
    assert torch.equal(path.z[stayed], images()[stayed])
