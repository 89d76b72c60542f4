"""Ancestral sampling: the reverse process in finite steps."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, expm1, sqrt

import torch
from torch import Tensor

from pcdm_core.likelihood.velocity import predicted_noise_at
from pcdm_core.model import Cascade
from pcdm_core.sampling.noise import ImageNoise

__all__ = ["ancestral_latents", "ancestral_step"]


def ancestral_step(z: Tensor, predicted_noise: Tensor, noise: Tensor, gamma: float, lower: float) -> Tensor:
    """A draw of ``p(z_s | z_t)``, which is ``q(z_s | z_t, x)`` with the predicted image for ``x``.

        z_s = alpha_s / alpha_t (z_t - c sigma_t eps_hat) + sigma_s sqrt(c) eps,    c = 1 - exp(gamma_s - gamma_t)

    (VDM, equations 32 and 33).

    Args:
        z: ``z_t``, ``[B, *shape(s)]``.
        predicted_noise: ``P_s eps_hat_s`` at ``z``.
        noise: ``eps``, with covariance ``P_s``.
        gamma: ``gamma_t``, the noise level of ``z``.
        lower: ``gamma_s``, the noise level to go to.
    """
    change = -expm1(lower - gamma)
    ratio = sqrt(_variance(-lower) / _variance(-gamma))
    mean = ratio * (z - change * sqrt(_variance(gamma)) * predicted_noise)
    return mean + sqrt(_variance(lower) * change) * noise


def _variance(gamma: float) -> float:
    """``sigma^2 = sigmoid(gamma)`` in double precision; ``alpha^2`` is that of ``-gamma``."""
    return 1 / (1 + exp(-gamma))


@torch.no_grad()
def ancestral_latents(
    cascade: Cascade,
    noise: ImageNoise,
    *,
    steps: int,
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[], None] | None = None,
) -> tuple[Tensor, ...]:
    """Draw ``z_0`` of every scale, coarse to fine, each given the *sampled* ``z_0`` of the coarser ones.

    The steps are even in the learned schedule's time, so that they are small where much is decided.

    Args:
        cascade: The model, in evaluation mode.
        noise: Of the images to draw.
        steps: T, of every scale; one network call each.
        dtype: Precision of the latents.
        on_step: Called after each step.

    Returns:
        ``z_0^(s)`` of every scale, ``[B, *shape(s)]``.

    Raises:
        ValueError: If ``steps`` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    transform, device = cascade.transform, cascade.device
    times = torch.arange(steps + 1, dtype=torch.float64, device=device) / steps
    z0: tuple[Tensor, ...] = ()
    for scale in range(1, transform.scales + 1):
        condition = cascade.condition(scale, z0)
        gammas = cascade.schedule(scale, times)[0].tolist()
        draws = noise.normal(transform, scale)
        z = next(draws).to(device, dtype)
        for step in range(steps, 0, -1):
            gamma, lower = gammas[step], gammas[step - 1]
            predicted = predicted_noise_at(cascade, scale, z, torch.full((len(z),), gamma, device=device), condition)
            z = ancestral_step(z, predicted, next(draws).to(device, dtype), gamma, lower)
            if on_step is not None:
                on_step()
        z0 += (z,)
    return z0
