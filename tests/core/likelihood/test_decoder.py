from math import log

import pytest
import torch
from oracles import all_images, clean_coefficients, lattice_gamma, small_config
from torch import Tensor

from pcdm_core.likelihood import reconstruction
from pcdm_core.model import Cascade, alpha_sigma


def cascade_of(levels: int, gamma_min: float, shape: tuple[int, int, int] = (1, 2, 2)) -> Cascade:
    return Cascade(small_config("haar", 2, shape, levels=levels, gamma_min=gamma_min))


def over_all_levels(cascade: Cascade, images: Tensor, z0: tuple[Tensor, ...]) -> Tensor:
    """The definition: a Gaussian around every level, normalised over all of them."""
    alpha, sigma = alpha_sigma(torch.tensor(cascade.config.gamma_min, dtype=torch.float64))
    noisy = cascade.transform.inverse(z0).double() / alpha
    levels = (2 * torch.arange(cascade.config.levels, dtype=torch.float64) + 1) / cascade.config.levels - 1
    logits = -0.5 * ((noisy[..., None] - levels) * alpha / sigma).square()
    chosen = logits.log_softmax(-1).gather(-1, images.long()[..., None])
    return -chosen.flatten(1).sum(1)


@pytest.mark.parametrize("levels", [2, 3, 256])
@pytest.mark.parametrize("gamma_min", [-13.3, -8.0, -4.0, 0.0])
@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
def test_it_is_the_definition(levels: int, gamma_min: float, noise: float) -> None:
    cascade = cascade_of(levels, gamma_min, (2, 4, 4))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(levels, (8, 2, 4, 4), generator=generator)
    images[0], images[1] = 0, levels - 1
    eps = cascade.transform.noise(noise * torch.randn(8, 32, generator=generator))
    z0 = cascade.sample_z0(clean_coefficients(cascade, images), eps)
    expected = over_all_levels(cascade, images, z0)
    assert torch.allclose(reconstruction(cascade, images, z0), expected, rtol=1e-9, atol=1e-9)


def test_it_sums_to_one_over_all_images() -> None:
    cascade = cascade_of(3, lattice_gamma(3) + 2.0)
    images = all_images(3)
    one = cascade.sample_z0(clean_coefficients(cascade, images[40:41]), cascade.transform.noise(torch.randn(1, 4)))
    z0 = tuple(z.expand(len(images), *z.shape[1:]) for z in one)
    assert float((-reconstruction(cascade, images, z0)).exp().sum()) == pytest.approx(1.0, abs=1e-9)


def test_hopeless_noise_costs_the_logarithm_of_the_levels() -> None:
    cascade = cascade_of(256, 11.9)
    z0 = tuple(torch.zeros(1, *cascade.transform.shape(scale)) for scale in (1, 2))
    nats = reconstruction(cascade, torch.full((1, 1, 2, 2), 128), z0)
    assert float(nats) == pytest.approx(4 * log(256), rel=1e-4)


@pytest.mark.parametrize("value", [-3.0, 3.0])
def test_latents_far_outside_the_lattice_have_finite_likelihoods(value: float) -> None:
    cascade = cascade_of(256, -13.3)
    z0 = cascade.transform.forward(torch.full((1, 1, 2, 2), value))
    nats = reconstruction(cascade, torch.full((1, 1, 2, 2), 128), z0)
    assert nats.isfinite().all()
    assert float(nats) > 1e5
