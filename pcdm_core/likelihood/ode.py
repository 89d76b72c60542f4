"""A Runge-Kutta step that knows its error, for the flow's densities and its samples alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["CALLS_PER_STEP", "Field", "State", "Step", "runge_kutta_step"]

State = tuple[Tensor, ...]
"""What is integrated together, such as latents ``[B, ...]`` and log densities ``[B]``; each in its own precision."""

Field = Callable[[State, Tensor], State]
"""Derivative of every part of a state at a state and at times ``[B]``, of the same shapes."""

# Cash and Karp (1990): times of the stages, what each adds of the slopes before it, and the weights of fifth order.
_TIMES = (0.0, 1 / 5, 3 / 10, 3 / 5, 1.0, 7 / 8)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (3 / 10, -9 / 10, 6 / 5),
    (-11 / 54, 5 / 2, -70 / 27, 35 / 27),
    (1631 / 55296, 175 / 512, 575 / 13824, 44275 / 110592, 253 / 4096),
)
_FIFTH = (37 / 378, 0.0, 250 / 621, 125 / 594, 0.0, 512 / 1771)
_FOURTH = (2825 / 27648, 0.0, 18575 / 48384, 13525 / 55296, 277 / 14336, 1 / 4)
_ERROR = tuple(five - four for five, four in zip(_FIFTH, _FOURTH, strict=True))
# The stage whose time is the end of the step.
_END = 4

CALLS_PER_STEP = len(_TIMES)
"""Evaluations of the field in one step."""


class Step(NamedTuple):
    """Where one step ends.

    Attributes:
        state: By the formula of fifth order.
        error: What it is more than by the embedded formula of fourth order; that of the latter, about.
        slope: Of the field about where the step ends.
    """

    state: State
    error: State
    slope: State


def runge_kutta_step(field: Field, state: State, time: Tensor, width: Tensor) -> Step:
    """One step of Cash and Karp's pair of formulas, each image at its own time and with its own width.

    No image looks at another, so the result does not depend on batch-mates.

    Args:
        field: The derivative.
        state: At ``time``.
        time: Where the step begins, ``[B]`` float64.
        width: Of the step, ``[B]`` float64; negative to go backwards.
    """
    slopes: list[State] = []
    for share, weights in zip(_TIMES, _STAGES, strict=True):
        slopes.append(field(_moved(state, slopes, weights, width), time + share * width))
    nothing = tuple(torch.zeros_like(part) for part in state)
    return Step(_moved(state, slopes, _FIFTH, width), _moved(nothing, slopes, _ERROR, width), slopes[_END])


def _moved(state: State, slopes: list[State], weights: tuple[float, ...], width: Tensor) -> State:
    """``state + width * sum_i weights[i] slopes[i]``."""
    for slope, weight in zip(slopes, weights, strict=True):
        if weight:
            state = tuple(part + _like(weight * width, rise) * rise for part, rise in zip(state, slope, strict=True))
    return state


def _like(values: Tensor, part: Tensor) -> Tensor:
    """One value an image, ``[B]``, ready to multiply a part of a state."""
    return values.to(part.dtype).view(-1, *(1,) * (part.ndim - 1))
