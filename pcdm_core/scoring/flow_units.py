"""Units of the probability flow: one solver step of one (image, scale), each going on where the last one ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log, pi, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdm_core.likelihood import density_field, noise_log_density, runge_kutta_step
from pcdm_core.model import Cascade
from pcdm_core.scoring.prediction import Latents
from pcdm_core.scoring.units import FlowState, Score, Unit, UnitResult

__all__ = ["CALLS_PER_STEP", "combine_flow", "flow_bucket", "latent_terms", "next_step", "run_flow_step"]

CALLS_PER_STEP = 4


def flow_bucket(unit: Unit) -> tuple[str | int, ...]:
    """Units that are at the same step of the same grid may share a batch."""
    return (*unit.bucket[:2], "flow", unit.fidelity.nodes, unit.node)


def next_step(unit: Unit, result: UnitResult) -> Unit | None:
    """The unit that goes on where ``result`` ended; None after the last step."""
    if result.state is None:
        return None
    following = replace(unit, node=unit.node + 1, state=result.state)
    return replace(following, bucket=flow_bucket(following))


def latent_terms(reconstruction: Tensor, latents: Latents, cascade: Cascade) -> Tensor:
    """``-log p(x | z_0)`` and ``log q(z_0 | x)``, nats, ``[B, 2]`` float64."""
    variance = 1 / (1 + np.exp(-cascade.config.gamma_min))
    alpha = sqrt(1 - variance)
    clean, sampled = latents.coefficients, latents.z0
    away = [z0.double() - alpha * z.double() for z0, z in zip(sampled, clean, strict=True)]
    square = torch.stack([z.square().flatten(1).sum(1) for z in away]).sum(0)
    log_q = -0.5 * (square / variance + cascade.config.dimensions * log(2 * pi * variance))
    return torch.stack((reconstruction, log_q), dim=1)


def run_flow_step(cascade: Cascade, latents: Latents, probe: Tensor, units: Sequence[Unit]) -> list[UnitResult]:
    """One Runge-Kutta step of each unit, all at the same step of the same grid.

    Args:
        cascade: The model.
        latents: Of their images.
        probe: Of the divergence, ``[B, *shape(s)]``.
        units: Of one bucket.

    Returns:
        After the last step ``log p(z_0^(s) | z_0^(<s))``, nats; before, a state to go on from.
    """
    scale, step, steps = units[0].scale, units[0].node, units[0].fidelity.nodes
    z, growth = latents.z0[scale - 1], torch.zeros(len(units), dtype=torch.float64, device=cascade.device)
    states = [unit.state for unit in units if unit.state is not None]
    if states:
        assert len(states) == len(units)
        z = torch.from_numpy(np.stack([state.z for state in states])).to(z)
        growth = torch.tensor([state.growth for state in states], dtype=torch.float64, device=cascade.device)
    low = cascade.config.gamma_min
    width = (cascade.config.gamma_max - low) / steps
    field = density_field(cascade, scale, cascade.condition(scale, latents.z0), probe)
    z, growth = runge_kutta_step(field, (z, growth), low + step * width, width)
    if step + 1 == steps:
        density = noise_log_density(z, cascade.transform.rank(scale)) + growth
        return [UnitResult(np.array([value])) for value in density.tolist()]
    nothing = np.zeros(0)
    rows = zip(z.cpu().numpy(), growth.tolist(), strict=True)
    return [UnitResult(nothing, FlowState(row, value)) for row, value in rows]


def combine_flow(parts: Sequence[tuple[Unit, NDArray[np.float64]]], cascade: Cascade) -> Score:
    """The discrete likelihood of one image by dequantisation with ``q(z_0 | x)``, tightened by K draws.

    ``-log P(x) <= -log 1/K sum_k exp(w_k)`` in expectation, with ``w = log p(x | z_0) + log p(z_0) - log q(z_0 | x)``
    (arXiv 1509.00519); K is `Fidelity.replicates`, and for one draw it is the mean of ``-w``.
    """
    fidelity, scales = parts[0][0].fidelity, cascade.transform.scales
    draws = fidelity.replicates
    # Of each draw: reconstruction, log q, and minus the log density of each scale.
    nats = np.zeros((draws, 2 + scales))
    for unit, values in parts:
        if unit.scale == 0:
            nats[unit.replicate, :2] = values
        else:
            nats[unit.replicate, 1 + unit.scale] = -values[0]
    log_weights = -nats.sum(1)
    largest = log_weights.max()
    weights = np.exp(log_weights - largest)
    total = -(largest + log(weights.mean()))
    to_bits = 1 / (cascade.config.dimensions * log(2))
    names = ["reconstruction", "dequantisation", *(f"flow_scale_{scale}" for scale in range(1, scales + 1))]
    terms: Mapping[str, float] = dict(zip(names, (nats.mean(0) * to_bits).tolist(), strict=True))
    # What K draws win over the mean of one: not positive, by Jensen.
    gain = {"importance": float(total + log_weights.mean()) * to_bits} if draws > 1 else {}
    stderr = float(weights.std(ddof=1) / weights.mean() / sqrt(draws) * to_bits) if draws > 1 else None
    return Score(
        score=None,
        p_value=None,
        is_ood=None,
        bits_per_dim=float(total * to_bits),
        nats=float(total),
        stderr=stderr,
        terms={**terms, **gain},
        diffusion=None,
        embedded_bits_per_dim=None,
        network_calls=CALLS_PER_STEP * fidelity.nodes * scales * draws,
        features=np.zeros(0),
    )
