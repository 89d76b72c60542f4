"""At which noise levels the integral over time is evaluated, and with which weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pcdm_core.model import NoiseSchedule

__all__ = ["Method", "NoiseLevels", "embedded_weights", "gauss_legendre", "noise_levels"]

Method = Literal["bound", "certified", "flow"]
"""``bound``: an estimate of the continuous-time bound, by Gauss-Legendre nodes in the learned schedule's time.
``certified``: the sum over as many finite steps, itself a bound in expectation at any number of nodes, and the higher
the fewer they are. ``flow``: no bound by diffusion, but the density of the latents by the probability flow, with as
many Runge-Kutta steps; see `flow_log_density`."""


@lru_cache(maxsize=64)
def gauss_legendre(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights on [0, 1]; the weights sum to 1.

    Time is what the learned schedule makes of it: equal times carry about equal shares of the bound's variance.
    """
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


def noise_levels(schedule: NoiseSchedule, scale: int, method: Method, nodes: int) -> NoiseLevels:
    """Noise levels and weights of a scale.

    Args:
        schedule: ``gamma_s(t)``.
        scale: 1 (coarsest) to S.
        method: ``bound`` or ``certified``.
        nodes: Their number.
    """
    assert method != "flow", "the flow has a grid in gamma, and no weights"
    if method == "certified":
        # VDM, equation 13: z_{i-1} given z_i; the first step ends at z_0, which the decoder sees.
        gamma = schedule(scale, torch.arange(nodes + 1, dtype=torch.float64) / nodes)[0].cpu().numpy()
        return NoiseLevels(gamma[1:], np.expm1(np.diff(gamma.astype(np.float64))), None)
    times, weights = gauss_legendre(nodes)
    gamma, slope = (a.cpu().numpy() for a in schedule(scale, torch.from_numpy(times).to(schedule.logits.device)))
    embedded = embedded_weights(nodes) * slope if nodes > 1 else None
    return NoiseLevels(gamma, weights * slope, embedded)
