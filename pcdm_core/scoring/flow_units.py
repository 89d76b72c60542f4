"""Units of the probability flow: one solver step of one (image, scale), each going on where the last one ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log, pi, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdm_core.likelihood import FlowPath, advance, density_field, noise_log_density
from pcdm_core.model import Cascade
from pcdm_core.scoring.prediction import Latents
from pcdm_core.scoring.units import FlowState, Score, Unit, UnitResult

__all__ = ["combine_flow", "latent_terms", "next_step", "run_flow_step"]


def next_step(unit: Unit, result: UnitResult) -> Unit | None:
    """The unit that goes on where ``result`` ended; None after the last step."""
    return None if result.state is None else replace(unit, state=result.state)


def latent_terms(reconstruction: Tensor, latents: Latents, cascade: Cascade) -> Tensor:
    """``-log p(x | z_0)`` and ``log q(z_0 | x)``, nats, ``[B, 2]`` float64."""
    variance = 1 / (1 + np.exp(-cascade.config.gamma_min))
    alpha = sqrt(1 - variance)
    clean, sampled = latents.coefficients, latents.z0
    away = [z0.double() - alpha * z.double() for z0, z in zip(sampled, clean, strict=True)]
    square = torch.stack([z.square().flatten(1).sum(1) for z in away]).sum(0)
    log_q = -0.5 * (square / variance + cascade.config.dimensions * log(2 * pi * variance))
    return torch.stack((reconstruction, log_q), dim=1)


def run_flow_step(cascade: Cascade, latents: Latents, probe: Tensor | None, units: Sequence[Unit]) -> list[UnitResult]:
    """One solver step of each unit, each at a noise level, and with a width, of its own.

    Args:
        cascade: The model.
        latents: Of their images.
        probe: Of the divergence, ``[B, *shape(s)]``; None for the exact one.
        units: Of one bucket.

    Returns:
        After the last step ``log p(z_0^(s) | z_0^(<s))``, its error and the network calls; before, a state to go on
        from.
    """
    scale, tolerance = units[0].scale, units[0].fidelity.tolerance
    low, high = cascade.config.gamma_min, cascade.config.gamma_max
    rank = cascade.transform.rank(scale)
    starts = latents.z0[scale - 1].cpu().numpy()
    path = _path([_start(unit, z, low, high) for unit, z in zip(units, starts, strict=True)], cascade.device)
    field = density_field(cascade, scale, cascade.condition(scale, latents.z0), probe)
    path = advance(field, path, (low, high), rank, tolerance)
    ended = (~path.running(high)).tolist()
    densities = (noise_log_density(path.z, rank) + path.growth).tolist()
    return [
        UnitResult(np.array([density, state.error, state.calls])) if done else UnitResult(np.zeros(0), state)
        for done, density, state in zip(ended, densities, _states(path), strict=True)
    ]


def _start(unit: Unit, z: NDArray[np.float32], low: float, high: float) -> FlowState:
    """Where a unit begins: where the last one ended, or at the sampled latents."""
    return unit.state or FlowState(z, 0.0, low, (high - low) / unit.fidelity.nodes, 0.0, 0)


def _path(states: Sequence[FlowState], device: torch.device) -> FlowPath:
    def column(name: str) -> Tensor:
        return torch.tensor([getattr(state, name) for state in states], dtype=torch.float64, device=device)

    z = torch.from_numpy(np.stack([state.z for state in states])).to(device)
    growth, gamma, width, error, calls = map(column, ("growth", "gamma", "width", "error", "calls"))
    return FlowPath(z, growth, gamma, width, error, calls.long())


def _states(path: FlowPath) -> list[FlowState]:
    columns = (part.tolist() for part in (path.growth, path.gamma, path.width, path.error, path.calls))
    return [FlowState(z, *row) for z, *row in zip(path.z.cpu().numpy(), *columns, strict=True)]


def combine_flow(parts: Sequence[tuple[Unit, NDArray[np.float64]]], cascade: Cascade) -> Score:
    """The discrete likelihood of one image by dequantisation with ``q(z_0 | x)``, tightened by K draws.

    ``-log P(x) <= -log 1/K sum_k exp(w_k)`` in expectation, with ``w = log p(x | z_0) + log p(z_0) - log q(z_0 | x)``
    (arXiv 1509.00519); K is `Fidelity.replicates`, and for one draw it is the mean of ``-w``.
    """
    fidelity, scales = parts[0][0].fidelity, cascade.transform.scales
    draws = fidelity.replicates
    # Of each draw: reconstruction, log q, and minus the log density of each scale.
    nats, errors = np.zeros((draws, 2 + scales)), np.zeros(draws)
    calls = 0
    for unit, values in parts:
        if unit.scale == 0:
            nats[unit.replicate, :2] = values
        else:
            nats[unit.replicate, 1 + unit.scale] = -values[0]
            errors[unit.replicate] += values[1]
            calls += int(values[2])
    log_weights = -nats.sum(1)
    total, embedded = (_mean_of_draws(each) for each in (log_weights, log_weights - errors))
    weights = np.exp(log_weights - log_weights.max())
    to_bits = 1 / (cascade.config.dimensions * log(2))
    names = ["reconstruction", "dequantisation", *(f"flow_scale_{scale}" for scale in range(1, scales + 1))]
    terms: Mapping[str, float] = dict(zip(names, (nats.mean(0) * to_bits).tolist(), strict=True))
    # What K draws win over the mean of one: not positive, by Jensen.
    gain = {"importance": (total + float(log_weights.mean())) * to_bits} if draws > 1 else {}
    stderr = float(weights.std(ddof=1) / weights.mean() / sqrt(draws) * to_bits) if draws > 1 else None
    return Score(
        score=None,
        p_value=None,
        is_ood=None,
        bits_per_dim=total * to_bits,
        nats=total,
        stderr=stderr,
        terms={**terms, **gain},
        diffusion=None,
        embedded_bits_per_dim=embedded * to_bits,
        network_calls=calls,
        features=np.zeros(0),
    )


def _mean_of_draws(log_weights: NDArray[np.float64]) -> float:
    """``-log 1/K sum_k exp(w_k)``, nats."""
    largest = float(log_weights.max())
    return -(largest + log(float(np.exp(log_weights - largest).mean())))
