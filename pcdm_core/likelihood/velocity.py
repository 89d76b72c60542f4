"""The probability flow: its velocity and the divergence of that, for densities and samples alike."""

from __future__ import annotations

import torch
from torch import Tensor

from pcdm_core.model import Cascade

__all__ = ["noise_of_velocity", "predicted_noise_at", "velocity", "velocity_divergence"]


def predicted_noise_at(cascade: Cascade, scale: int, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
    """``P_s eps_hat_s(z; gamma, condition)`` of the shape of ``z``; ``gamma`` is ``[B]`` in any precision."""
    return cascade.predicted_noise(scale, z, gamma.to(z.dtype), condition)


def velocity(z: Tensor, predicted_noise: Tensor, gamma: Tensor) -> Tensor:
    """``dz/dgamma = 1/2 (sigma eps_hat - sigma^2 z)`` (arXiv 2011.13456, in the negative log signal-to-noise ratio).

    Args:
        z: Latents of a scale, ``[B, *shape(s)]``, in the range of ``P_s``.
        predicted_noise: ``P_s eps_hat_s`` at ``z``.
        gamma: Noise levels, ``[B]`` float64.

    Returns:
        Of the shape of ``z``, in the range of ``P_s``.
    """
    sigma = _sigma(gamma, z)
    return 0.5 * (sigma * predicted_noise - sigma.square() * z)


def noise_of_velocity(z: Tensor, slope: Tensor, gamma: Tensor) -> Tensor:
    """The predicted noise that gave this `velocity`: its inverse, with ``slope`` for ``dz/dgamma``."""
    sigma = _sigma(gamma, z)
    return 2 * slope / sigma + sigma * z


def velocity_divergence(trace: Tensor, rank: int, gamma: Tensor) -> Tensor:
    """``1/2 (sigma div eps_hat - sigma^2 rank(P_s))``: the divergence of `velocity` on the range of ``P_s``.

    Args:
        trace: ``div eps_hat``, or an estimate of it, ``[B]`` float64.
        rank: Of ``P_s``.
        gamma: Noise levels, ``[B]`` float64.
    """
    variance = gamma.sigmoid()
    return 0.5 * (variance.sqrt() * trace - variance * rank)


def _sigma(gamma: Tensor, z: Tensor) -> Tensor:
    """``sigma = sqrt(sigmoid(gamma))``, ready to multiply ``z``."""
    return torch.as_tensor(gamma.sigmoid().sqrt().to(z.dtype).view(-1, *(1,) * (z.ndim - 1)))
