"""The probability flow as a map between latents and noise, and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pcdm_core.likelihood.ode import Field, State
from pcdm_core.likelihood.path import travel
from pcdm_core.likelihood.velocity import predicted_noise_at, velocity
from pcdm_core.model import Cascade

__all__ = ["decode", "encode"]


@torch.no_grad()
def encode(
    cascade: Cascade,
    z0: tuple[Tensor, ...],
    *,
    steps: int,
    tolerance: float | None = None,
    on_step: Callable[[], None] | None = None,
) -> tuple[Tensor, ...]:
    """Integrate ``z_0`` to ``z_1`` for every scale, given ``z_0`` of the coarser ones.

    Args:
        cascade: The model, in evaluation mode. It computes in the precision of ``z0``.
        z0: Latents of every scale, ``[B, *shape(s)]``, such as `Cascade.sample_z0` makes of an image.
        steps: Of every scale, six network calls each; with a tolerance, the first step is one of so many.
        tolerance: Error of one step that is let pass, relative to the noise; None for equal steps.
        on_step: Called after each step.

    Returns:
        ``z_1^(s)`` of every scale, of the same shapes; about ``N(0, P_s)`` for images that the model knows.

    Raises:
        ValueError: If ``steps`` is less than 1, or ``tolerance`` is not positive.
    """
    ends = (cascade.config.gamma_min, cascade.config.gamma_max)
    return tuple(
        _transport(cascade, scale, z, cascade.condition(scale, z0), ends, steps, tolerance, on_step)
        for scale, z in enumerate(z0, start=1)
    )


@torch.no_grad()
def decode(
    cascade: Cascade,
    z1: tuple[Tensor, ...],
    *,
    steps: int,
    tolerance: float | None = None,
    on_step: Callable[[], None] | None = None,
) -> tuple[Tensor, ...]:
    """Integrate ``z_1`` back to ``z_0``, coarse to fine, given the decoded ``z_0`` of the coarser scales.

    Of noise ``N(0, P_s)`` it makes samples. It is the inverse of `encode`, up to the solver's error.

    Args:
        cascade: The model, in evaluation mode. It computes in the precision of ``z1``.
        z1: Noise of every scale, ``[B, *shape(s)]``.
        steps: As for `encode`.
        tolerance: As for `encode`.
        on_step: Called after each step.

    Returns:
        ``z_0^(s)`` of every scale, of the same shapes.

    Raises:
        ValueError: If ``steps`` is less than 1, or ``tolerance`` is not positive.
    """
    ends = (cascade.config.gamma_max, cascade.config.gamma_min)
    z0: tuple[Tensor, ...] = ()
    for scale, z in enumerate(z1, start=1):
        z0 += (_transport(cascade, scale, z, cascade.condition(scale, z0), ends, steps, tolerance, on_step),)
    return z0


def _transport(
    cascade: Cascade,
    scale: int,
    z: Tensor,
    condition: Tensor | None,
    ends: tuple[float, float],
    steps: int,
    tolerance: float | None,
    on_step: Callable[[], None] | None,
) -> Tensor:
    def field_of(images: Tensor) -> Field:
        shown = None if condition is None else condition[images]

        def field(state: State, gamma: Tensor) -> State:
            point, growth = state
            return velocity(point, predicted_noise_at(cascade, scale, point, gamma, shown), gamma), 0 * growth

        return field

    rank = cascade.transform.rank(scale)
    return travel(field_of, z, ends, rank=rank, steps=steps, tolerance=tolerance, on_step=on_step).z
