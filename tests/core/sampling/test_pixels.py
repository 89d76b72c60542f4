"""Pixels from latents, against the decoder whose distribution they are drawn from."""

from __future__ import annotations

import pytest
import torch
from tiny_samplers import SHAPE, random_pictures, small_cascade
from torch import Tensor

from pcdm_core.likelihood import reconstruction
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig
from pcdm_core.sampling import likeliest_pixels, sample_pixels


def one_pixel(levels: int, gamma_min: float) -> Cascade:
    config = CascadeConfig(
        image_shape=(1, 1, 1),
        transform="identity",
        networks=(NetworkConfig(channels=4, blocks=1, attention=False, fourier=()),),
        gamma_min=gamma_min,
        levels=levels,
    )
    return Cascade(config)


def decoder_probabilities(cascade: Cascade, z0: Tensor) -> Tensor:
    """``p(x | z_0)`` of every level of the one pixel."""
    levels = torch.arange(cascade.config.levels).view(-1, 1, 1, 1)
    return (-reconstruction(cascade, levels, (z0.expand(len(levels), 1, 1, 1),))).exp()


@pytest.mark.parametrize(("levels", "gamma_min"), [(2, 0.0), (5, -3.0), (256, -4.0), (256, -13.3)])
@pytest.mark.parametrize("value", [-1.01, 0.0, 0.013, 0.99])
def test_frequencies_are_those_of_the_decoder(levels: int, gamma_min: float, value: float) -> None:
    cascade, count = one_pixel(levels, gamma_min), 1000
    z0 = torch.full((1, 1, 1, 1), value, dtype=torch.float64)
    # Evenly spread numbers instead of random ones: a frequency is off by one in a thousand at most at each end.
    uniform = ((torch.arange(count, dtype=torch.float64) + 0.5) / count).view(-1, 1, 1, 1)
    drawn = sample_pixels(cascade, (z0.expand(count, 1, 1, 1),), uniform)
    frequencies = torch.bincount(drawn.flatten().long(), minlength=levels) / count
    assert float((frequencies - decoder_probabilities(cascade, z0)).abs().max()) < 1.5 / count


@pytest.mark.parametrize("value", [-1.01, -0.5, 0.013, 0.99])
def test_the_mode_is_the_likeliest_level(value: float) -> None:
    cascade, z0 = one_pixel(32, -6.0), torch.full((1, 1, 1, 1), value, dtype=torch.float64)
    assert int(likeliest_pixels(cascade, (z0,))) == int(decoder_probabilities(cascade, z0).argmax())


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-53])
@pytest.mark.parametrize("value", [-50.0, 0.3, 50.0])
def test_extreme_numbers_stay_within_the_levels(value: float, uniform: float) -> None:
    cascade, one = one_pixel(256, -13.3), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    drawn = int(sample_pixels(cascade, (value * one,), uniform * one))
    # Three steps are 18 standard deviations of the noise at gamma_0.
    assert abs(drawn - int(likeliest_pixels(cascade, (value * one,)))) <= 3


@pytest.mark.parametrize(("transform", "scales"), [("haar", 3), ("laplacian", 2), ("downsample", 2)])
def test_latents_without_noise_are_the_image(transform: str, scales: int) -> None:
    cascade, images = small_cascade(transform, scales), random_pictures(3)
    coefficients = cascade.transform.forward(cascade.pixels(images))
    z0 = cascade.sample_z0(coefficients, tuple(torch.zeros_like(z) for z in coefficients))
    assert torch.equal(likeliest_pixels(cascade, z0), images)
    assert torch.equal(sample_pixels(cascade, z0, torch.full((3, *SHAPE), 0.5, dtype=torch.float64)), images)
