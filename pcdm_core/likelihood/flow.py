"""The exact density of the latents, by the probability flow of each scale."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Literal

import torch
from torch import Tensor

from pcdm_core.likelihood.ode import Field, State
from pcdm_core.likelihood.path import FlowPath, travel
from pcdm_core.likelihood.velocity import predicted_noise_at, velocity, velocity_divergence
from pcdm_core.model import Cascade
from pcdm_core.transforms import Transform

__all__ = ["Divergence", "FlowDensity", "density_field", "flow_log_density", "noise_log_density", "require_density"]

Divergence = Literal["exact", "hutchinson"]
"""``exact``: the trace of the Jacobian, one backward pass for each coefficient. ``hutchinson``: ``v^T J v`` with one
random probe v for each image, unbiased."""


@dataclass(frozen=True)
class FlowDensity:
    """What the flow says of sampled latents.

    Attributes:
        log_density: ``log p(z_0^(s) | z_0^(<s))`` of each scale, nats, ``[B, S]`` float64.
        error: What `log_density` is more than by the embedded solver of lower order, nats, ``[B, S]`` float64.
        network_calls: Network evaluations for each image and scale, ``[B, S]`` int64.
    """

    log_density: Tensor
    error: Tensor
    network_calls: Tensor


def flow_log_density(
    cascade: Cascade,
    z0: tuple[Tensor, ...],
    *,
    steps: int,
    tolerance: float | None = None,
    divergence: Divergence = "exact",
    probes: tuple[Tensor, ...] | None = None,
) -> FlowDensity:
    """Integrate the probability flow from gamma_0 to gamma_1, scale by scale (arXiv 2011.13456, appendix D).

        dz / dgamma = 1/2 (sigma eps_hat - sigma^2 z)
        log p(z_0)  = log N(z_1; 0, P) + 1/2 Int ( sigma div eps_hat - sigma^2 rank(P) ) dgamma

    Every image is integrated by itself, on a uniform grid or with steps of its own, so its density does not depend on
    its batch-mates.

    Args:
        cascade: The model. It computes in the precision of ``z0``.
        z0: Sampled latents of every scale, ``[B, *shape(s)]``.
        steps: Of the grid, six network calls each; with a tolerance, the first step is one of so many.
        tolerance: Error of one step that is let pass, nats per dimension, see `advance`; None for the grid.
        divergence: How the divergence is computed.
        probes: For ``hutchinson``: ``[B, *shape(s)]`` of each scale, with mean zero and covariance ``I`` (or ``P_s``).

    Raises:
        ValueError: If the transform is not volume preserving, so that densities of scales do not multiply to a density
            of the image; or if ``steps``, ``tolerance`` or ``probes`` do not fit.
    """
    transform = cascade.transform
    require_density(transform)
    if (divergence == "hutchinson") != (probes is not None):
        raise ValueError("probes belong to the hutchinson divergence: give both or neither")
    paths = [
        _scale_path(cascade, scale, z0, steps, tolerance, None if probes is None else probes[scale - 1])
        for scale in range(1, transform.scales + 1)
    ]
    densities = [
        noise_log_density(path.z, transform.rank(scale)) + path.growth for scale, path in enumerate(paths, start=1)
    ]
    return FlowDensity(
        torch.stack(densities, dim=1),
        torch.stack([path.error for path in paths], dim=1),
        torch.stack([path.calls for path in paths], dim=1),
    )


def require_density(transform: Transform) -> None:
    """Refuse an exact density where there is none.

    Raises:
        ValueError: If the transform is not volume preserving; says why, and what can be had.
    """
    if not transform.volume_preserving:
        raise ValueError(
            f"no exact density with the {transform.name} transform: it does not preserve volume, so its scales overlap "
            "and their densities do not multiply to that of the image; evaluate its bound, which is valid but loose, "
            "or train a cascade with haar or laplacian"
        )


def _scale_path(
    cascade: Cascade, scale: int, z0: tuple[Tensor, ...], steps: int, tolerance: float | None, probe: Tensor | None
) -> FlowPath:
    """All images of one scale brought to gamma_1."""
    condition = cascade.condition(scale, z0)

    def field_of(images: Tensor) -> Field:
        shown = None if condition is None else condition[images]
        return density_field(cascade, scale, shown, None if probe is None else probe[images])

    ends = (cascade.config.gamma_min, cascade.config.gamma_max)
    rank = cascade.transform.rank(scale)
    return travel(field_of, z0[scale - 1], ends, rank=rank, steps=steps, tolerance=tolerance)


def density_field(cascade: Cascade, scale: int, condition: Tensor | None, probe: Tensor | None) -> Field:
    """Derivative of a state ``(z, growth)``: the flow's velocity, and its divergence.

    Integrated from gamma_0 to gamma_1, ``growth`` (``[B]`` float64) is what `noise_log_density` of ``z`` is short of
    the log density of where ``z`` began.

    Args:
        cascade: The model.
        scale: 1 (coarsest) to S.
        condition: The coarse image below it; None at scale 1.
        probe: Of the Hutchinson divergence, of the shape of ``z``; None for the exact one.
    """
    rank = cascade.transform.rank(scale)

    def field(state: State, gamma: Tensor) -> State:
        z, _ = state
        with torch.enable_grad():
            point = z.detach().requires_grad_()
            predicted = predicted_noise_at(cascade, scale, point, gamma, condition)
            trace = _trace(predicted, point) if probe is None else _probed_trace(predicted, point, probe)
        return velocity(z, predicted.detach(), gamma), velocity_divergence(trace, rank, gamma)

    return field


def noise_log_density(z: Tensor, rank: int) -> Tensor:
    """``log N(z; 0, P)`` for a projection P of the given rank, ``[B]`` float64."""
    return -0.5 * (z.double().square().flatten(1).sum(1) + rank * log(2 * pi))


def _trace(output: Tensor, point: Tensor) -> Tensor:
    """Trace of ``d output / d point`` of each image, ``[B]``; of a projected output, the trace on the range of P_s."""
    trace = torch.zeros(len(point), dtype=torch.float64, device=point.device)
    columns = output.flatten(1)
    for index in range(columns.shape[1]):
        # Images do not see each other: one backward pass gives this row of the Jacobian of all of them.
        (row,) = torch.autograd.grad(columns[:, index].sum(), point, retain_graph=True)
        trace += row.flatten(1)[:, index].double()
    return trace


def _probed_trace(output: Tensor, point: Tensor, probe: Tensor) -> Tensor:
    """``v^T J v`` of each image, ``[B]``."""
    (product,) = torch.autograd.grad(output, point, grad_outputs=probe)
    return (product * probe).flatten(1).double().sum(1)
