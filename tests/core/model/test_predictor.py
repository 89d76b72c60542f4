from typing import Any

import pytest
import torch
from tiny_cascades import Shape, random_images, tiny_cascade, tiny_config
from torch import Tensor

from pcdm_core.model import Cascade, NoisePredictor, alpha_sigma
from pcdm_core.model.network import UNet


def noisy(cascade: Cascade, scale: int, gamma: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """``z_t``, the condition and the noise of random images at noise levels ``[B]``."""
    images = random_images(cascade.config, len(gamma), seed=5)
    coefficients = cascade.transform.forward(cascade.pixels(images))
    generator = torch.Generator().manual_seed(6)
    size = (len(gamma), cascade.transform.noise_dimensions)
    noise0, noise = (cascade.transform.noise(torch.randn(size, generator=generator)) for _ in range(2))
    alpha, sigma = alpha_sigma(gamma[:, None, None, None])
    z = alpha * coefficients[scale - 1] + sigma * noise[scale - 1]
    return z, cascade.condition(scale, cascade.sample_z0(coefficients, noise0)), noise[scale - 1]


def unet_of(cascade: Cascade) -> UNet:
    """That of scale 2."""
    predictor = cascade.predictors[1]
    assert isinstance(predictor, NoisePredictor)
    return predictor.unet


def rms(a: Tensor) -> float:
    return float(a.double().square().mean().sqrt())


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (1, 4, 12), (2, 16, 8)])
@pytest.mark.parametrize("transform", ["haar", "laplacian", "downsample"])
def test_prediction_has_the_shape_of_the_coefficients(transform: str, shape: Shape, patch: int) -> None:
    cascade = tiny_cascade(tiny_config(transform, 2, shape, {"patch": patch}))
    for scale in (1, 2):
        z, condition, _ = noisy(cascade, scale, torch.tensor([-13.3, 5.0]))
        predicted = cascade.predicted_noise(scale, z, torch.tensor([-13.3, 5.0]), condition)
        assert predicted.shape == (2, *cascade.transform.shape(scale))
        assert predicted.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("network", [{"multipliers": (1, 2)}, {"attention": True}, {"fourier": ()}])
def test_every_kind_of_network_runs(network: dict[str, Any]) -> None:
    cascade = tiny_cascade(tiny_config(network=network))
    z, condition, _ = noisy(cascade, 2, torch.zeros(3))
    assert cascade.predicted_noise(2, z, torch.zeros(3), condition).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("scale", [2, 3])
def test_prediction_lies_in_the_range_of_the_projection(scale: int, patch: int) -> None:
    cascade = tiny_cascade(tiny_config("laplacian", 3, (3, 8, 8), {"patch": patch if scale == 3 else 1}))
    gamma = torch.linspace(-13.3, 5.0, 6)
    z, condition, _ = noisy(cascade, scale, gamma)
    predicted = cascade.predictor(scale)(z, gamma, condition)
    torch.testing.assert_close(cascade.transform.project(scale, predicted), predicted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_networks_answer_to_the_condition() -> None:
    cascade = tiny_cascade(tiny_config())
    z, condition, _ = noisy(cascade, 2, torch.zeros(2))
    assert condition is not None
    predicted, other = (cascade.predicted_noise(2, z, torch.zeros(2), c) for c in (condition, -condition))
    assert not torch.allclose(predicted, other, atol=1e-3)


@torch.no_grad()
def test_networks_answer_to_the_noise_level() -> None:
    cascade = tiny_cascade(tiny_config(lattice=False))
    z, condition, _ = noisy(cascade, 2, torch.zeros(2))
    predicted, _ = unet_of(cascade)(torch.ones(1, 18, 8, 8), torch.tensor([0.2]))
    other, _ = unet_of(cascade)(torch.ones(1, 18, 8, 8), torch.tensor([0.8]))
    assert condition is not None
    assert z.shape == (2, 9, 4, 4)
    assert not torch.allclose(predicted, other, atol=1e-3)


@torch.no_grad()
def test_an_untrained_network_adds_nothing_to_the_linear_guess() -> None:
    cascade = Cascade(tiny_config(lattice=False)).eval()
    cascade.fit_variance(random_images(cascade.config, 64))
    gamma = torch.tensor([-2.0, 1.0])
    z, condition, _ = noisy(cascade, 2, gamma)
    alpha, sigma = alpha_sigma(gamma[:, None, None, None])
    variance = torch.as_tensor(cascade.predictors[1].variance)
    expected = sigma / (alpha.square() * variance + sigma.square()) * z
    torch.testing.assert_close(cascade.predicted_noise(2, z, gamma, condition), expected)


@torch.no_grad()
@pytest.mark.parametrize("lattice", [False, True])
def test_linear_error_is_what_the_linear_guess_leaves(lattice: bool) -> None:
    cascade = Cascade(tiny_config(lattice=lattice)).eval()
    cascade.fit_variance(random_images(cascade.config, 64))
    predictor = cascade.predictors[1]
    assert isinstance(predictor, NoisePredictor)
    gamma = torch.full((64,), -1.0)  # noise too strong for the lattice
    z, condition, noise = noisy(cascade, 2, gamma)
    left = (noise - predictor(z, gamma, condition)).square().mean()
    assert float(left) == pytest.approx(float(predictor.linear_error(gamma[:1])), rel=0.05)


@torch.no_grad()
@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 2), ("laplacian", 2)])
def test_the_lattice_explains_most_of_the_least_noise(transform: str, scales: int) -> None:
    config = tiny_config(transform, scales)
    gamma = torch.full((8,), config.gamma_min)
    left = []
    for lattice in (True, False):
        cascade = Cascade(config.model_copy(update={"lattice": lattice})).eval()
        z, condition, noise = noisy(cascade, scales, gamma)
        left.append(rms(noise - cascade.predicted_noise(scales, z, gamma, condition)) / rms(noise))
    assert left[0] < 0.4
    assert left[1] > 0.9


@torch.no_grad()
@pytest.mark.parametrize("lattice", [True, False])
@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 2), ("laplacian", 2)])
def test_bfloat16_sees_the_least_noise(transform: str, scales: int, lattice: bool) -> None:
    cascade = tiny_cascade(tiny_config(transform, scales, lattice=lattice))
    gamma = torch.full((8,), cascade.config.gamma_min)
    z, condition, _ = noisy(cascade, scales, gamma)
    exact = cascade.predicted_noise(scales, z, gamma, condition)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = cascade.predicted_noise(scales, z, gamma, condition)
    rounded = cascade.predicted_noise(scales, z.bfloat16().float(), gamma, condition)
    assert predicted.dtype == torch.float32
    tolerance = 0.05
    assert rms(predicted - exact) / rms(exact) < tolerance
    assert rms(rounded - exact) / rms(exact) > 2 * tolerance, "this test would not notice a bfloat16 input stage"


@torch.no_grad()
def test_autocast_reaches_the_inner_part_only() -> None:
    cascade = tiny_cascade(tiny_config())
    unet = unet_of(cascade)
    seen: dict[str, torch.dtype] = {}
    for name, layer in {"first": unet.first, "inner": unet.middle1.conv1, "last": unet.last}.items():
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: seen.update({name: output.dtype}))
    z, condition, _ = noisy(cascade, 2, torch.zeros(2))
    with torch.autocast("cpu", torch.bfloat16):
        cascade.predicted_noise(2, z, torch.zeros(2), condition)
    assert seen == {"first": torch.float32, "inner": torch.bfloat16, "last": torch.float32}


@torch.no_grad()
@pytest.mark.parametrize("transform", ["haar", "laplacian"])
def test_fitted_variance_counts_only_real_dimensions(transform: str) -> None:
    cascade = Cascade(tiny_config(transform, lattice=False))
    white = torch.randn(512, cascade.transform.noise_dimensions)
    for predictor, z in zip(cascade.predictors, cascade.transform.noise(white), strict=True):
        assert isinstance(predictor, NoisePredictor)
        predictor.fit_variance(z)
        torch.testing.assert_close(predictor.variance, torch.ones_like(predictor.variance), atol=0.06, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2])
def test_a_wave_that_noise_has_drowned_is_not_shown(scale: int) -> None:
    """Its phase would be noise alone: rough in ``z``, and it would say nothing of the image."""
    cascade = tiny_cascade(tiny_config("haar", 2, (1, 8, 8), {"fourier": (6, 7)}))
    predictor = cascade.predictors[scale - 1]
    assert isinstance(predictor, NoisePredictor)
    seen: list[Tensor] = []
    predictor.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for gamma in (-13.3, -4.0):
        level = torch.tensor([gamma])
        z, condition, _ = noisy(cascade, scale, level)
        cascade.predicted_noise(scale, z, level, condition)
    clear, drowned = (rms(inputs[:, 1:5]) for inputs in seen)
    assert clear > 0.3
    assert drowned < 1e-6
