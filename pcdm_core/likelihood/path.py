"""The way of latents along the flow: where each image is, how far its next step goes, what was lost so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pcdm_core.likelihood.ode import CALLS_PER_STEP, Field, Step, runge_kutta_step
from pcdm_core.likelihood.velocity import noise_of_velocity

__all__ = ["FlowPath", "advance", "travel"]

# Usual settings of a step control: caution, and how much a step may shrink or grow at once.
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0
_MOST_STEPS = 512
"""A step that is this small a part of the whole way is taken whatever its error: work stays bounded, the error told."""


@dataclass(frozen=True, eq=False)
class FlowPath:
    """Where the integration of one scale has come to, image by image.

    Attributes:
        z: Latents, ``[B, *shape(s)]``.
        growth: Log density gathered on the way, nats, ``[B]`` float64.
        gamma: Noise level reached, ``[B]`` float64.
        width: Of the next step, ``[B]`` float64.
        error: What the log density is more than by the embedded formula of lower order, nats, ``[B]`` float64.
        calls: Network evaluations so far, ``[B]`` int64.
    """

    z: Tensor
    growth: Tensor
    gamma: Tensor
    width: Tensor
    error: Tensor
    calls: Tensor

    @classmethod
    def start(cls, z: Tensor, gamma: float, width: float) -> FlowPath:
        """All images at one noise level, with the same first step."""
        zeros = torch.zeros(len(z), dtype=torch.float64, device=z.device)
        return cls(z, zeros, zeros + gamma, zeros + width, zeros, zeros.long())

    def running(self, end: float) -> Tensor:
        """Which images have not reached ``end``, ``[B]`` bool."""
        return self.gamma != end

    def select(self, chosen: Tensor) -> FlowPath:
        """The paths of some images."""
        return FlowPath(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def replace(self, chosen: Tensor, others: FlowPath) -> FlowPath:
        """These paths, with those of the chosen images replaced."""
        parts = []
        for field in fields(self):
            part = getattr(self, field.name).clone()
            part[chosen] = getattr(others, field.name)
            parts.append(part)
        return FlowPath(*parts)


def travel(
    field_of: Callable[[Tensor], Field],
    z: Tensor,
    ends: tuple[float, float],
    *,
    rank: int,
    steps: int,
    tolerance: float | None = None,
    on_step: Callable[[], None] | None = None,
) -> FlowPath:
    """Bring all images of a scale from one end to the other, each by itself.

    Args:
        field_of: The field of some images, which are given by a mask ``[B]`` bool; see `advance`.
        z: Latents to start from, ``[B, *shape(s)]``.
        ends: Noise levels to start and to end at, in either order.
        rank: Of ``P_s``.
        steps: Of a uniform grid, six network calls each; with a tolerance, the first step is one of so many.
        tolerance: See `advance`; None for the grid.
        on_step: Called after each step of the images that still run.

    Raises:
        ValueError: If ``steps`` is less than 1, or ``tolerance`` is not positive.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    start, end = ends
    path = FlowPath.start(z, start, (end - start) / steps)
    while (running := path.running(end)).any():
        path = path.replace(running, advance(field_of(running), path.select(running), ends, rank, tolerance))
        if on_step is not None:
            on_step()
    return path


def advance(field: Field, path: FlowPath, ends: tuple[float, float], rank: int, tolerance: float | None) -> FlowPath:
    """Try one step with every image: it goes on, or stays and will try a shorter one.

    The error of a step, per dimension, is the greater of ``|d growth| / rank`` and ``||dz|| / (sigma sqrt(rank))``. As
    ``-eps_hat / sigma`` is the gradient of the log density, and about one noise in every dimension at most, the latter
    is the most that an error ``dz`` of the latents can change in it.

    Args:
        field: Derivative of ``(z, growth)``, see `density_field`.
        path: Of images that have not reached the end.
        ends: Noise levels where the whole way starts and ends, in either order.
        rank: Of ``P_s``.
        tolerance: The largest error of a step that is let pass, nats per dimension; None to keep every step, and its
            width. Else widths are whole halvings of the way and of its `sqrt(2)`-th part, so that steps do not follow
            the rounding of their errors, which depends on the images beside.
    """
    start, end = ends
    whole = end - start
    # What a grid's rounding leaves before the end is not worth a step.
    last = path.width.abs() > (end - path.gamma).abs() - 1e-9 * abs(whole)
    width = torch.where(last, end - path.gamma, path.width)
    step = runge_kutta_step(field, (path.z, path.growth), path.gamma, width)
    reached = torch.where(last, torch.full_like(width, end), path.gamma + width)
    change, size = _log_density_error(step, reached, rank)
    calls = path.calls + CALLS_PER_STEP
    z, growth = step.state
    if tolerance is None:
        return FlowPath(z, growth, reached, path.width, path.error + change, calls)
    least = abs(whole) / _MOST_STEPS
    ratio = size / tolerance
    kept = (ratio <= 1) | (width.abs() <= least)
    factor = (_SAFETY * ratio.clamp(min=1e-12) ** -0.2).clamp(_SHRINK, _GROW)
    following = _rounded((width * factor).abs(), abs(whole)).clamp(min=least).copysign(width)
    return FlowPath(
        torch.where(kept.view(-1, *(1,) * (z.ndim - 1)), z, path.z),
        torch.where(kept, growth, path.growth),
        torch.where(kept, reached, path.gamma),
        following,
        torch.where(kept, path.error + change, path.error),
        calls,
    )


def _rounded(width: Tensor, whole: float) -> Tensor:
    """The greatest ``whole * 2^(-k/2)`` with a whole number k that is not more than the width."""
    return 2.0 ** (torch.log2(width / whole) * 2).floor().div(2) * whole


def _log_density_error(step: Step, gamma: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """What a step's error changes in the log density, nats, and its size per dimension; both ``[B]`` float64."""
    (z, _), (dz, growth), (slope, _) = step
    sigma = gamma.sigmoid().sqrt()
    predicted = noise_of_velocity(z, slope, gamma)
    by_z = -(predicted * dz).flatten(1).double().sum(1) / sigma
    distance = (dz.double().square().flatten(1).sum(1) / rank).sqrt() / sigma
    size = torch.maximum(growth.abs() / rank, distance)
    # Not a number is no small error.
    return growth + by_z, size.nan_to_num(nan=torch.inf)
