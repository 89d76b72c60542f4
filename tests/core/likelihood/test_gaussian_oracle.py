"""Gaussian data, for which the best denoiser and every entropy are known in closed form."""

from __future__ import annotations

import pytest
import torch
from gaussians import (
    CASCADES,
    DIMENSIONS,
    GAMMA_MIN,
    SHAPE,
    entropy,
    gaussian_cascade,
    latent_covariance,
    smooth_covariance,
)
from oracles import diffusion_terms

from pcdm_core.likelihood import prior

TOLERANCE = 0.06
"""Nats of about thirteen; about four standard errors of the estimates below."""


def latent_information(transform: str, scales: int, *, clean_condition: bool = False, guess: float = 1.0) -> float:
    """Mean of prior + diffusion terms in nats, summed over scales.

    Args:
        transform: Its name.
        scales: S.
        clean_condition: Show the networks the clean coarse image instead of the sampled one.
        guess: The covariance that the networks believe in, relative to the true one.
    """
    covariance = smooth_covariance()
    cascade = gaussian_cascade(transform, scales, guess * covariance, clean_condition=clean_condition)
    generator = torch.Generator().manual_seed(3)
    white = torch.randn(2, 8000, DIMENSIONS, generator=generator, dtype=torch.float64)
    images = white[0] @ torch.linalg.cholesky(covariance).T
    # Whitened, so that the sample has exactly the second moments of its distribution.
    images = images @ torch.linalg.inv(torch.linalg.cholesky(images.T @ images / len(images))).T
    images = images @ torch.linalg.cholesky(covariance).T
    coefficients = cascade.transform.forward(images.view(-1, *SHAPE))
    z0 = cascade.sample_z0(coefficients, cascade.transform.noise(white[1]))
    shown = coefficients if clean_condition else z0
    diffusion = diffusion_terms(cascade, coefficients, shown, generator, nodes=24, variance=0.05)
    return float((diffusion + prior(cascade, coefficients)).sum(1).mean())


def noise_entropy() -> float:
    """Of ``q(z_0 | x)``."""
    sigma2 = torch.sigmoid(torch.tensor(GAMMA_MIN, dtype=torch.float64))
    return entropy(sigma2 * torch.eye(DIMENSIONS, dtype=torch.float64))


def latent_entropy() -> float:
    """Of ``z_0``."""
    return entropy(latent_covariance())


@pytest.mark.parametrize(("transform", "scales"), CASCADES[1:])
def test_scales_add_up_to_the_value_of_a_single_scale(transform: str, scales: int) -> None:
    single = latent_information("identity", 1)
    assert latent_information(transform, scales) == pytest.approx(single, abs=2**0.5 * TOLERANCE)


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_latent_bound_is_the_entropy_of_the_latents(transform: str, scales: int) -> None:
    gap = latent_information(transform, scales) + noise_entropy() - latent_entropy()
    assert abs(gap) < TOLERANCE


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_a_worse_denoiser_lies_above_the_entropy(transform: str, scales: int) -> None:
    gap = latent_information(transform, scales, guess=3.0) + noise_entropy() - latent_entropy()
    assert gap > 5 * TOLERANCE


def test_clean_condition_breaks_the_chain_rule() -> None:
    # The same draws on both sides, so that their errors cancel.
    leak = latent_information("haar", 2) - latent_information("haar", 2, clean_condition=True)
    assert leak > 0.03
