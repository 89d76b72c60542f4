"""Samples of Gaussian images, whose latents have a mean and a covariance that are known in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import prod
from typing import cast

import pytest
import torch
from gaussians import (
    CASCADES,
    DIMENSIONS,
    GAMMA_MIN,
    SHAPE,
    coarse_matrix,
    gaussian_cascade,
    latent_covariance,
    matrix,
    smooth_covariance,
)
from torch import Tensor, nn

from pcdm_core.model import Cascade, PredictsNoise, alpha_sigma
from pcdm_core.sampling import (
    ImageNoise,
    SamplingMethod,
    ancestral_latents,
    ancestral_step,
    decode,
    encode,
    sample_latents,
)
from pcdm_core.transforms import Shape, Transform

COUNT = 1000
STANDARD_ERRORS = 5.0
"""Of one entry of a sample's mean or covariance; with 152 entries, chance exceeds it once in ten thousand."""
STEPS: dict[SamplingMethod, int] = {"ancestral": 100, "flow": 16}
"""At 100 ancestral steps variances are about 6 % too small, as finite steps make them: a quarter of the tolerance."""
SECOND_ORDER = 5e-3
"""What is left of the error of 100 ancestral steps, 0.031 in one entry of a covariance, without its first order."""
PRIOR_MISMATCH = 1e-3
"""At gamma_1 = 12, 0.0025 of the mean of a scale given the coarser ones is left in z_1, and sampling forgets it."""


class ShiftedDenoiser(nn.Module):
    """The best denoiser of images with a mean, made of that of the same images less their mean."""

    def __init__(self, cascade: Cascade, scale: int, mean: Tensor) -> None:
        super().__init__()
        self.centred, transform = cascade.predictors[scale - 1], cascade.transform
        self.mean = matrix(transform, scale) @ mean
        alpha = alpha_sigma(torch.tensor(GAMMA_MIN, dtype=torch.float64))[0]
        self.coarse = None if scale == 1 else alpha * (coarse_matrix(transform, scale) @ mean)

    def forward(self, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
        alpha = alpha_sigma(gamma[0].double())[0]
        if condition is not None:
            assert self.coarse is not None
            condition = condition - self.coarse.view(1, *condition.shape[1:])
        centred = cast(PredictsNoise, self.centred)
        return centred(z - alpha * self.mean.view(1, *z.shape[1:]), gamma, condition)


def image_mean() -> Tensor:
    """Far from zero, and different in every pixel."""
    return torch.linspace(-1.0, 2.0, DIMENSIONS, dtype=torch.float64)


def cascade_with_mean(transform: str, scales: int) -> Cascade:
    cascade = gaussian_cascade(transform, scales, smooth_covariance())
    mean = image_mean()
    cascade.predictors = nn.ModuleList(ShiftedDenoiser(cascade, scale, mean) for scale in range(1, scales + 1))
    return cascade


def latent_mean() -> Tensor:
    return alpha_sigma(torch.tensor(GAMMA_MIN, dtype=torch.float64))[0] * image_mean()


def draw(cascade: Cascade, method: SamplingMethod, numbers: range) -> Tensor:
    """Latents as images, ``[count, DIMENSIONS]``."""
    z0 = sample_latents(cascade, numbers, method=method, steps=STEPS[method], seed=0, dtype=torch.float64)
    return cascade.transform.inverse(z0).flatten(1)


class EveryCoordinate(ImageNoise):
    """Instead of chance: image by image, one number of one draw is 1 and all others are 0.

    The seed is the number of draws.
    """

    @classmethod
    def of(cls, transform: Transform, steps: int) -> EveryCoordinate:
        return cls(steps + 1, range((steps + 1) * sum(prod(shape) for shape in cls.shapes(transform))))

    @staticmethod
    def shapes(transform: Transform) -> list[Shape]:
        return [transform.shape(scale) for scale in range(1, transform.scales + 1)]

    def normal(self, transform: Transform, scale: int) -> Iterator[Tensor]:
        sizes = [prod(shape) for shape in self.shapes(transform)]
        size, start, draws = sizes[scale - 1], sum(sizes[: scale - 1]) * self.seed, self.seed
        for draw in range(draws):
            white = torch.zeros(len(self.numbers), size, dtype=torch.float64)
            first = start + draw * size
            white[first : first + size] = torch.eye(size, dtype=torch.float64)
            yield transform.project(scale, white.view(-1, *transform.shape(scale)))


def exact_covariance(cascade: Cascade, steps: int) -> Tensor:
    """Of ancestral samples as images: they are linear in all the noise, so the images of a basis tell all."""
    noise = EveryCoordinate.of(cascade.transform, steps)
    z0 = ancestral_latents(cascade, noise, steps=steps, dtype=torch.float64)
    rows = cascade.transform.inverse(z0).flatten(1)
    return rows.T @ rows


def errors_in_standard_errors(images: Tensor) -> tuple[Tensor, Tensor]:
    """How far mean and covariance of a sample lie off, in standard errors of each entry."""
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(latent_covariance()), (images - latent_mean()).T, upper=False
    )
    eye = torch.eye(DIMENSIONS, dtype=torch.float64)
    # Of white numbers, a sample's variance has twice the variance that a covariance has.
    covariance = (white @ white.T / len(images) - eye) / (1 + eye).sqrt()
    return white.mean(1) * len(images) ** 0.5, covariance * len(images) ** 0.5


@pytest.mark.parametrize("method", ["ancestral", "flow"])
@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_samples_have_the_analytic_mean_and_covariance(transform: str, scales: int, method: SamplingMethod) -> None:
    mean, covariance = errors_in_standard_errors(draw(cascade_with_mean(transform, scales), method, range(COUNT)))
    assert float(mean.abs().max()) < STANDARD_ERRORS
    assert float(covariance.abs().max()) < STANDARD_ERRORS


def test_samples_of_another_covariance_are_told_apart() -> None:
    cascade = gaussian_cascade("haar", 2, 2.0 * smooth_covariance())
    _, covariance = errors_in_standard_errors(draw(cascade, "flow", range(COUNT)) + latent_mean())
    assert float(covariance.abs().max()) > 2 * STANDARD_ERRORS


def test_scales_that_forget_the_coarser_ones_are_told_apart() -> None:
    cascade = gaussian_cascade("haar", 2, smooth_covariance())
    # The second network is shown another image's coarse band: each scale alone is right, but not what they share.
    cascade.predictors[1].register_forward_pre_hook(lambda _, inputs: (*inputs[:2], inputs[2].roll(1, 0)))
    _, covariance = errors_in_standard_errors(draw(cascade, "flow", range(COUNT)) + latent_mean())
    assert float(covariance.abs().max()) > STANDARD_ERRORS


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_ancestral_samples_have_the_covariance_in_the_limit_of_many_steps(transform: str, scales: int) -> None:
    cascade, expected = gaussian_cascade(transform, scales, smooth_covariance()), latent_covariance()
    few, many = (exact_covariance(cascade, steps) for steps in (50, 100))
    assert float((few - expected).norm()) > 1.8 * float((many - expected).norm())
    # The error is of first order: twice the one less the other leaves that of second order.
    assert torch.allclose(2 * many - few, expected, rtol=0, atol=SECOND_ORDER)


def test_the_last_step_is_noisy_too() -> None:
    cascade, noise = gaussian_cascade("identity", 1, smooth_covariance()), ImageNoise(0, range(2))
    z1, eps, *_ = (draw.double() for draw in islice(noise.normal(cascade.transform, 1), 2))
    gamma = cascade.config.gamma_max
    predicted = cascade.predicted_noise(1, z1, torch.full((2,), gamma, dtype=torch.float64), None)
    (z0,) = ancestral_latents(cascade, noise, steps=1, dtype=torch.float64)
    assert torch.allclose(z0, ancestral_step(z1, predicted, eps, gamma, GAMMA_MIN), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_the_flow_pushes_the_prior_forward_to_the_latents(transform: str, scales: int) -> None:
    cascade = gaussian_cascade(transform, scales, smooth_covariance())
    # Everything is linear here: the images of a basis are the whole map, and no chance is left.
    basis = cascade.transform.forward(torch.eye(DIMENSIONS, dtype=torch.float64).view(-1, *SHAPE))
    rows = cascade.transform.inverse(decode(cascade, basis, steps=32)).flatten(1)
    assert torch.allclose(rows.T @ rows, latent_covariance(), rtol=0, atol=PRIOR_MISMATCH)


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_decode_is_the_inverse_of_encode(transform: str, scales: int) -> None:
    cascade = cascade_with_mean(transform, scales)
    images = draw(cascade, "flow", range(20))
    z0 = cascade.transform.forward(images.view(-1, *SHAPE))
    back = decode(cascade, encode(cascade, z0, steps=64), steps=64)
    for before, after in zip(z0, back, strict=True):
        assert torch.allclose(before, after, rtol=0, atol=1e-5)


def test_what_encode_and_decode_lose_falls_with_the_fourth_power_of_the_step() -> None:
    cascade = cascade_with_mean("haar", 3)
    z0 = cascade.transform.forward(draw(cascade, "flow", range(20)).view(-1, *SHAPE))

    def lost(steps: int) -> float:
        back = decode(cascade, encode(cascade, z0, steps=steps), steps=steps)
        return max(float((before - after).abs().max()) for before, after in zip(z0, back, strict=True))

    assert lost(12) > 8 * lost(24)


@pytest.mark.parametrize("transform", ["identity", "haar", "laplacian"])
def test_encoded_images_of_the_distribution_are_white(transform: str) -> None:
    cascade = gaussian_cascade(transform, 1 if transform == "identity" else 2, smooth_covariance())
    factor = torch.linalg.cholesky(latent_covariance())
    z1 = encode(cascade, cascade.transform.forward(factor.T.contiguous().view(-1, *SHAPE)), steps=32)
    rows = cascade.transform.inverse(z1).flatten(1)
    assert torch.allclose(rows.T @ rows, torch.eye(DIMENSIONS, dtype=torch.float64), rtol=0, atol=PRIOR_MISMATCH)


@pytest.mark.parametrize("method", ["ancestral", "flow"])
@pytest.mark.parametrize(("transform", "scales"), [("haar", 3), ("laplacian", 2)])
def test_an_image_does_not_depend_on_its_batch_mates(transform: str, scales: int, method: SamplingMethod) -> None:
    cascade = cascade_with_mean(transform, scales)
    together, alone = draw(cascade, method, range(7)), draw(cascade, method, range(4, 5))
    assert torch.allclose(together[4:5], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("gamma", "lower"), [(12.0, 11.0), (5.0, -3.0), (0.1, 0.0), (-3.0, -13.3)])
def test_a_step_with_the_true_image_keeps_the_marginal(gamma: float, lower: float) -> None:
    # The step is linear in (z_t, eps) given the image: follow mean and variance through it.
    x, one = torch.tensor([0.7], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    (alpha, sigma), (alpha_s, sigma_s) = (alpha_sigma(torch.tensor(g, dtype=torch.float64)) for g in (gamma, lower))

    def step(z: Tensor, eps: Tensor) -> Tensor:
        return ancestral_step(z, (z - alpha * x) / sigma, eps, gamma, lower)

    mean = step(alpha * x, 0 * one)
    by_z, by_noise = step(alpha * x + sigma, 0 * one) - mean, step(alpha * x, one) - mean
    assert torch.allclose(mean, alpha_s * x)
    assert torch.allclose(by_z.square() + by_noise.square(), sigma_s.square())
