"""The classical Runge-Kutta method, for the flow's densities and its samples alike."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Field", "State", "integrate", "runge_kutta_step"]

State = tuple[Tensor, ...]
"""What is integrated together, such as latents ``[B, ...]`` and log densities ``[B]``; each in its own precision."""

Field = Callable[[State, float], State]
"""Derivative of every part of a state at a state and a time, of the same shapes."""

_STAGES = (0.0, 0.5, 0.5, 1.0)
_WEIGHTS = (1 / 6, 1 / 3, 1 / 3, 1 / 6)


def runge_kutta_step(field: Field, state: State, time: float, width: float) -> State:
    """The state at ``time + width``, with an error of order ``width ** 5``; four evaluations of the field.

    No image looks at another: the grid is fixed, so the result does not depend on batch-mates.

    Args:
        field: The derivative.
        state: At ``time``.
        time: Where the step begins.
        width: Of the step; negative to go backwards.
    """
    slope = total = tuple(torch.zeros_like(part) for part in state)
    for stage, weight in zip(_STAGES, _WEIGHTS, strict=True):
        point = tuple(part + stage * width * rise for part, rise in zip(state, slope, strict=True))
        slope = field(point, time + stage * width)
        total = tuple(part + weight * rise for part, rise in zip(total, slope, strict=True))
    return tuple(part + width * rise for part, rise in zip(state, total, strict=True))


def integrate(
    field: Field,
    state: State,
    start: float,
    end: float,
    steps: int,
    *,
    on_step: Callable[[], None] | None = None,
) -> State:
    """The state at ``end``, by equal Runge-Kutta steps; going back along the same grid undoes it up to its error.

    Args:
        field: The derivative.
        state: At ``start``.
        start: Time to begin at.
        end: Time to end at; before ``start`` to integrate backwards.
        steps: Their number.
        on_step: Called after each.

    Raises:
        ValueError: If ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    width = (end - start) / steps
    for step in range(steps):
        state = runge_kutta_step(field, state, start + step * width, width)
        if on_step is not None:
            on_step()
    return state
