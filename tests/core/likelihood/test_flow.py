"""The probability flow against densities that are known in closed form."""

from __future__ import annotations

from math import log, pi

import pytest
import torch
from gaussians import CASCADES, DIMENSIONS, SHAPE, gaussian_cascade, latent_covariance, smooth_covariance
from torch import Tensor

from pcdm_core.likelihood import FlowDensity, flow_log_density
from pcdm_core.model import Cascade

TOLERANCE = 1e-3
"""Nats per dimension."""


def latents(count: int) -> Tensor:
    """Draws of ``z_0`` as an image, ``[count, DIMENSIONS]``."""
    white = torch.randn(count, DIMENSIONS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return torch.as_tensor(white @ torch.linalg.cholesky(latent_covariance()).T)


def analytic_log_density(z: Tensor) -> Tensor:
    covariance = latent_covariance()
    distance = (z @ torch.linalg.inv(covariance) * z).sum(1)
    return torch.as_tensor(-0.5 * (distance + torch.logdet(covariance) + DIMENSIONS * log(2 * pi)))


def split(cascade: Cascade, z: Tensor) -> tuple[Tensor, ...]:
    return cascade.transform.forward(z.view(-1, *SHAPE))


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_sum_over_scales_is_the_analytic_density(transform: str, scales: int) -> None:
    cascade = gaussian_cascade(transform, scales, smooth_covariance())
    z = latents(8)
    flow = flow_log_density(cascade, split(cascade, z), steps=20)
    assert flow.log_density.shape == (8, scales)
    assert flow.network_calls.tolist() == [[6 * 20] * scales] * 8
    error = (flow.log_density.sum(1) - analytic_log_density(z)).abs() / DIMENSIONS
    assert float(error.max()) < TOLERANCE


def test_error_falls_with_the_fifth_power_of_the_step() -> None:
    cascade = gaussian_cascade("haar", 2, smooth_covariance())
    z = split(cascade, latents(4))
    few, more, many = (flow_log_density(cascade, z, steps=steps).log_density.sum(1) for steps in (10, 20, 80))
    assert float((few - many).abs().mean()) > 20 * float((more - many).abs().mean())


def adaptive(cascade: Cascade, z: Tensor, tolerance: float) -> FlowDensity:
    """One image at a time: the analytic denoiser takes one noise level for all."""
    found = [flow_log_density(cascade, split(cascade, one[None]), steps=4, tolerance=tolerance) for one in z]
    parts = ("log_density", "error", "network_calls")
    return FlowDensity(*(torch.cat([getattr(one, part) for one in found]) for part in parts))


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_own_steps_reach_the_analytic_density(transform: str, scales: int) -> None:
    cascade = gaussian_cascade(transform, scales, smooth_covariance())
    z = latents(3)
    flow = adaptive(cascade, z, 1e-4)
    error = (flow.log_density.sum(1) - analytic_log_density(z)).abs() / DIMENSIONS
    assert float(error.max()) < TOLERANCE


def test_a_smaller_tolerance_takes_more_calls_and_errs_less() -> None:
    cascade = gaussian_cascade("haar", 2, smooth_covariance())
    z = latents(3)
    truth = flow_log_density(cascade, split(cascade, z), steps=80).log_density
    loose, tight = (adaptive(cascade, z, tolerance) for tolerance in (1e-2, 1e-5))
    assert (tight.network_calls > loose.network_calls).all()
    assert float((tight.log_density - truth).abs().mean()) < 0.05 * float((loose.log_density - truth).abs().mean())


@pytest.mark.parametrize("steps", [6, 10, 16])
def test_the_error_that_is_told_is_about_the_true_one(steps: int) -> None:
    cascade = gaussian_cascade("haar", 2, smooth_covariance())
    z = split(cascade, latents(8))
    truth, few = (flow_log_density(cascade, z, steps=number) for number in (80, steps))
    told = float(few.error.sum(1).abs().mean())
    true = float((few.log_density - truth.log_density).sum(1).abs().mean())
    assert 0.3 * true < told < 3 * true


def probed(transform: str, scales: int, *, signs: bool) -> Tensor:
    """Log density of one image by 2,000 probes, normal or signs of the coefficients of each scale."""
    cascade = gaussian_cascade(transform, scales, smooth_covariance())
    generator, probes = torch.Generator().manual_seed(6), []
    for scale in range(1, scales + 1):
        shape = (2000, *cascade.transform.shape(scale))
        white = torch.randn(shape, generator=generator, dtype=torch.float64)
        probes.append(cascade.transform.project(scale, white.sign() if signs else white))
    z0 = split(cascade, latents(1).expand(2000, -1))
    flow = flow_log_density(cascade, z0, steps=8, divergence="hutchinson", probes=tuple(probes))
    return flow.log_density.sum(1)


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize(("transform", "scales"), CASCADES[1:4])
def test_probed_divergence_is_the_exact_one_on_average(transform: str, scales: int, signs: bool) -> None:
    cascade = gaussian_cascade(transform, scales, smooth_covariance())
    exact = float(flow_log_density(cascade, split(cascade, latents(1)), steps=8).log_density.sum())
    found = probed(transform, scales, signs=signs)
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / 2000**0.5
    assert float(found.std()) > 0


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_signs_are_the_better_probes(transform: str, scales: int) -> None:
    assert float(probed(transform, scales, signs=True).std()) < 0.8 * float(
        probed(transform, scales, signs=False).std()
    )


def test_density_of_an_image_does_not_depend_on_its_batch_mates() -> None:
    cascade = gaussian_cascade("haar", 2, smooth_covariance())
    z = latents(5)
    together = flow_log_density(cascade, split(cascade, z), steps=6).log_density
    alone = flow_log_density(cascade, split(cascade, z[2:3]), steps=6).log_density
    assert torch.allclose(together[2:3], alone, rtol=0, atol=1e-9)


def test_a_wrong_denoiser_has_another_density() -> None:
    cascade = gaussian_cascade("haar", 2, 3 * smooth_covariance())
    z = latents(16)
    flow = flow_log_density(cascade, split(cascade, z), steps=10).log_density.sum(1)
    assert float((flow - analytic_log_density(z)).abs().mean()) / DIMENSIONS > 10 * TOLERANCE


def test_a_map_that_does_not_preserve_volume_is_refused() -> None:
    cascade = gaussian_cascade("haar", 2, smooth_covariance())
    downsample = Cascade(cascade.config.model_copy(update={"transform": "downsample"}))
    with pytest.raises(ValueError, match="downsample transform: it does not preserve volume"):
        flow_log_density(downsample, downsample.transform.forward(torch.zeros(1, *SHAPE)), steps=2)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 2, "tolerance": 0.0}, "tolerance must be positive, got 0.0"),
        ({"steps": 2, "divergence": "hutchinson"}, "probes belong"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, object], named: str) -> None:
    cascade = gaussian_cascade("identity", 1, smooth_covariance())
    with pytest.raises(ValueError, match=named):
        flow_log_density(cascade, split(cascade, latents(1)), **options)  # type: ignore[arg-type]
