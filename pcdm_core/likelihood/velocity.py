"""The probability flow: its velocity and the divergence of that, for densities and samples alike."""

from __future__ import annotations

from math import exp

import torch
from torch import Tensor

from pcdm_core.model import Cascade

__all__ = ["noise_variance", "predicted_noise_at", "velocity", "velocity_divergence"]


def noise_variance(gamma: float) -> float:
    """``sigma^2 = sigmoid(gamma)`` of one noise level, in double precision; ``alpha^2`` is that of ``-gamma``."""
    return 1 / (1 + exp(-gamma))


def predicted_noise_at(cascade: Cascade, scale: int, z: Tensor, gamma: float, condition: Tensor | None) -> Tensor:
    """``P_s eps_hat_s(z; gamma, condition)`` of images that are all at one noise level, of the shape of ``z``."""
    level = torch.full((len(z),), gamma, device=z.device, dtype=z.dtype)
    return cascade.predicted_noise(scale, z, level, condition)


def velocity(z: Tensor, predicted_noise: Tensor, gamma: float) -> Tensor:
    """``dz/dgamma = 1/2 (sigma eps_hat - sigma^2 z)`` (arXiv 2011.13456, in the negative log signal-to-noise ratio).

    Args:
        z: Latents of a scale, ``[B, *shape(s)]``, in the range of ``P_s``.
        predicted_noise: ``P_s eps_hat_s`` at ``z``.
        gamma: Noise level of all of them.

    Returns:
        Of the shape of ``z``, in the range of ``P_s``.
    """
    variance = noise_variance(gamma)
    return torch.as_tensor(0.5 * (variance**0.5 * predicted_noise - variance * z))


def velocity_divergence(trace: Tensor, rank: int, gamma: float) -> Tensor:
    """``1/2 (sigma div eps_hat - sigma^2 rank(P_s))``: the divergence of `velocity` on the range of ``P_s``.

    Args:
        trace: ``div eps_hat``, or an estimate of it, ``[B]``.
        rank: Of ``P_s``.
        gamma: Noise level of all of them.
    """
    variance = noise_variance(gamma)
    return torch.as_tensor(0.5 * (variance**0.5 * trace - variance * rank))
