"""The bound of Gaussian images without chance: everything is linear, so the images of a basis tell all means."""

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
from torch import Tensor

from pcdm_core.likelihood import gauss_legendre, prior
from pcdm_core.model import Cascade, alpha_sigma, squared_error

TOLERANCE = 1e-3
"""Nats per dimension."""
NODES = 64


def mean_diffusion(cascade: Cascade, covariance: Tensor, scale: int) -> float:
    """``1/2 Int gamma' E||eps - eps_hat||^2 dt``, nats: the expectation over the image, ``z_0`` and the noise.

    The error is linear in all three, which are independent and, in the right basis, white: the mean of its square is
    the sum of the squares that the vectors of a basis give.
    """
    transform, size = cascade.transform, 3 * DIMENSIONS
    white = torch.eye(size, dtype=torch.float64).view(3, DIMENSIONS, size).permute(0, 2, 1)
    images = white[0] @ torch.linalg.cholesky(covariance).T
    coefficients = transform.forward(images.view(-1, *SHAPE))
    z0 = cascade.sample_z0(coefficients, transform.noise(white[1]))
    z, eps = coefficients[scale - 1], transform.noise(white[2])[scale - 1]
    condition = cascade.condition(scale, z0)
    total = 0.0
    for time, weight in zip(*gauss_legendre(NODES), strict=True):
        gamma, slope = cascade.schedule(scale, torch.full((size,), float(time), dtype=torch.float64))
        alpha, sigma = alpha_sigma(gamma.double()[:, None, None, None])
        predicted = cascade.predicted_noise(scale, alpha * z + sigma * eps, gamma, condition)
        total += 0.5 * float(weight) * float(slope[0]) * float(squared_error(eps, predicted).sum())
    return total


def mean_prior(cascade: Cascade, covariance: Tensor) -> float:
    """Sum over scales of the prior term, nats; a quadratic form in the coefficients and a constant."""
    images = torch.linalg.cholesky(covariance).T
    at_zero = prior(cascade, cascade.transform.forward(torch.zeros(1, *SHAPE, dtype=torch.float64))).sum()
    at_basis = prior(cascade, cascade.transform.forward(images.reshape(-1, *SHAPE))).sum(1)
    return float(at_zero + (at_basis - at_zero).sum())


def latent_bound(transform: str, scales: int, *, guess: float = 1.0) -> float:
    """Prior, diffusion and entropy of ``q(z_0 | x)``, nats; the networks know ``guess`` times the covariance."""
    covariance = smooth_covariance()
    cascade = gaussian_cascade(transform, scales, guess * covariance)
    sigma2 = torch.sigmoid(torch.tensor(GAMMA_MIN, dtype=torch.float64))
    diffusion = sum(mean_diffusion(cascade, covariance, scale) for scale in range(1, scales + 1))
    return diffusion + mean_prior(cascade, covariance) + entropy(sigma2 * torch.eye(DIMENSIONS, dtype=torch.float64))


def gap(transform: str, scales: int, *, guess: float = 1.0) -> float:
    """What the bound lies above the differential entropy of ``z_0``, nats per dimension."""
    return (latent_bound(transform, scales, guess=guess) - entropy(latent_covariance())) / DIMENSIONS


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_the_latent_bound_lies_just_above_the_entropy(transform: str, scales: int) -> None:
    assert 0 < gap(transform, scales) < TOLERANCE


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_networks_that_know_another_covariance_pay_for_it(transform: str, scales: int) -> None:
    assert gap(transform, scales, guess=1.5) > 5 * TOLERANCE


@pytest.mark.parametrize(("transform", "scales"), CASCADES[1:])
def test_scales_add_up_to_the_value_of_a_single_scale(transform: str, scales: int) -> None:
    single = latent_bound("identity", 1)
    assert latent_bound(transform, scales) == pytest.approx(single, abs=0.1 * TOLERANCE * DIMENSIONS)
