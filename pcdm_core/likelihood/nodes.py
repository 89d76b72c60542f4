"""At which noise levels the integral over time is evaluated, and with which weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pcdm_core.model import NoiseSchedule

__all__ = ["Method", "NoiseLevels", "Rule", "embedded_weights", "gauss_legendre", "noise_levels"]

Method = Literal["bound", "certified", "flow"]
"""``bound``: an estimate of the continuous-time bound, by Gauss-Legendre nodes, see `Rule`.
``certified``: the sum over as many finite steps, itself a bound in expectation at any number of nodes, and the higher
the fewer they are. ``flow``: no bound by diffusion, but the density of the latents by the probability flow, with as
many Runge-Kutta steps; see `flow_log_density`."""


Rule = Literal["gamma", "time"]
"""The variable of the bound's Gauss-Legendre nodes.

``gamma``: u, with ``gamma(u) = gamma_0 + (gamma_1 - gamma_0) (exp(2 u) - 1) / (exp(2) - 1)``. It is smooth, as such a
rule asks for, and goes slowly where the squared error changes fast: near gamma_0, where the network begins to see the
lattice of the pixels. For likelihoods. ``time``: t of the learned schedule, which puts the nodes where most of the
error is. For the detector, which does better on these; their sum stays off by 0.005 to 0.01 bits/dim however many they
are, as the schedule is piecewise linear (docs/quadrature.md)."""

# How much slower gamma goes at its low end than at its high one: exp(2), 7.4 times. Picked on training images.
_BEND = 2.0


@lru_cache(maxsize=64)
def gauss_legendre(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights on [0, 1]; the weights sum to 1."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return (points + 1) / 2, weights / 2


@lru_cache(maxsize=64)
def embedded_weights(nodes: int) -> NDArray[np.float64]:
    """Weights of the rule that uses every second node of `gauss_legendre` only; zero at the others.

    It is the interpolatory rule on those nodes: exact for polynomials of a degree below their number. What it says
    otherwise than the whole rule is an estimate, on the safe side, of the error that the choice of nodes makes, at no
    further network call.

    Raises:
        ValueError: Below two nodes, as nothing would be left out.
    """
    if nodes < 2:
        raise ValueError(f"an embedded rule needs at least 2 nodes, got {nodes}")
    points = 2 * gauss_legendre(nodes)[0][::2] - 1
    # Legendre polynomials integrate to 0, but for the constant one.
    integrals = np.zeros(len(points))
    integrals[0] = 1.0
    weights = np.zeros(nodes)
    weights[::2] = np.linalg.solve(np.polynomial.legendre.legvander(points, len(points) - 1).T, integrals)
    return weights


@dataclass(frozen=True, eq=False)
class NoiseLevels:
    """The diffusion term of one scale is ``1/2 sum_i weights[i] ||eps - eps_hat(gamma[i])||^2``.

    Attributes:
        gamma: Noise levels, ascending, ``[nodes]`` float32.
        weights: What their squared errors count, ``[nodes]`` float64.
        embedded: The same for the embedded rule; None where there is none (one node, or a certified sum).
    """

    gamma: NDArray[np.float32]
    weights: NDArray[np.float64]
    embedded: NDArray[np.float64] | None


def noise_levels(schedule: NoiseSchedule, scale: int, method: Method, nodes: int, rule: Rule = "gamma") -> NoiseLevels:
    """Noise levels and weights of a scale.

    Args:
        schedule: ``gamma_s(t)``.
        scale: 1 (coarsest) to S.
        method: ``bound`` or ``certified``; the latter is a bound on any grid, and low on one that is even in time.
        nodes: Their number.
        rule: Of the bound.
    """
    assert method != "flow", "the flow has a grid in gamma, and no weights"
    if method == "certified":
        # VDM, equation 13: z_{i-1} given z_i; the first step ends at z_0, which the decoder sees.
        ends = torch.arange(nodes + 1, dtype=torch.float64, device=schedule.logits.device) / nodes
        gamma = schedule(scale, ends)[0].cpu().numpy()
        return NoiseLevels(gamma[1:], np.expm1(np.diff(gamma.astype(np.float64))), None)
    points, weights = gauss_legendre(nodes)
    if rule == "time":
        gamma, slope = (a.cpu().numpy() for a in schedule(scale, torch.from_numpy(points).to(schedule.logits.device)))
    else:
        span = (schedule.gamma_max - schedule.gamma_min) / np.expm1(_BEND)
        gamma = (schedule.gamma_min + span * np.expm1(_BEND * points)).astype(np.float32)
        slope = span * _BEND * np.exp(_BEND * points)
    embedded = embedded_weights(nodes) * slope if nodes > 1 else None
    return NoiseLevels(gamma, weights * slope, embedded)
