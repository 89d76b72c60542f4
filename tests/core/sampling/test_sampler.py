"""Samples of small cascades: shapes, settings, and that an image is its seed and number alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_samplers import CASCADES, SHAPE, random_pictures, small_cascade

from pcdm_core.model import Cascade
from pcdm_core.sampling import ImageNoise, SamplingMethod, decode, encode, likeliest_pixels, sample_images

METHODS: list[SamplingMethod] = ["ancestral", "flow"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_samples_are_images(transform: str, scales: int, method: SamplingMethod) -> None:
    images = sample_images(small_cascade(transform, scales), 3, method=method, steps=4, seed=0)
    assert images.dtype == torch.uint8
    assert images.shape == (3, *SHAPE)
    assert len({image.numpy().tobytes() for image in images}) == 3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_an_image_does_not_depend_on_count_or_batch_size(transform: str, scales: int, method: SamplingMethod) -> None:
    cascade = small_cascade(transform, scales)

    def draw(count: int, batch_size: int) -> torch.Tensor:
        return sample_images(cascade, count, method=method, steps=3, seed=7, batch_size=batch_size).int()

    expected = draw(5, 5)
    for other in (draw(2, 1), draw(5, 3), draw(4, 64)):
        # Networks round otherwise in another batch: a pixel between two levels may fall on the other one.
        difference = (other - expected[: len(other)]).abs()
        assert int(difference.max()) <= 1
        assert int(difference.sum()) <= 2


def test_another_seed_makes_other_images() -> None:
    cascade = small_cascade("haar", 2)
    images = [sample_images(cascade, 1, method="ancestral", steps=3, seed=seed) for seed in (0, 1)]
    assert not torch.equal(*images)


def test_pixels_of_few_levels_are_drawn_within_them() -> None:
    cascade = small_cascade("haar", 2, levels=4, gamma_min=-4.0)
    images = sample_images(cascade, 8, method="ancestral", steps=10, seed=0)
    assert set(images.flatten().tolist()) == {0, 1, 2, 3}


def test_progress_counts_the_steps_of_every_image() -> None:
    counts: list[int] = []
    cascade = small_cascade("haar", 2)
    sample_images(cascade, 5, method="flow", steps=2, seed=0, batch_size=3, progress=counts.append)
    assert counts == [3, 6, 9, 12, 14, 16, 18, 20]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"steps": 0, "method": "flow"}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], named: str) -> None:
    settings: dict[str, Any] = {"count": 1, "method": "ancestral", "steps": 1, "seed": 0} | options
    with pytest.raises(ValueError, match=named):
        sample_images(small_cascade("identity", 1), **settings)


def calm_cascade(transform: str, scales: int) -> Cascade:
    """Random weights make a field far rougher than training does, which small steps only could follow."""
    cascade = small_cascade(transform, scales)
    with torch.no_grad():
        for parameter in cascade.predictors.parameters():
            parameter.mul_(0.3)
    return cascade


@pytest.mark.parametrize(("steps", "tolerance"), [(40, None), (16, 1e-4)])
@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 3), ("laplacian", 2), ("downsample", 2)])
def test_encode_and_decode_reproduce_images(transform: str, scales: int, steps: int, tolerance: float | None) -> None:
    cascade, images = calm_cascade(transform, scales), random_pictures(2)
    coefficients = cascade.transform.forward(cascade.pixels(images))
    noise = tuple(next(ImageNoise(5, range(2)).normal(cascade.transform, s)) for s in range(1, scales + 1))
    # Half the noise, so that no pixel of z_0 is nearer to another level than to its own, as one in 400 is.
    z0 = cascade.sample_z0(coefficients, tuple(eps / 2 for eps in noise))
    z1 = encode(cascade, z0, steps=steps, tolerance=tolerance)
    assert torch.equal(likeliest_pixels(cascade, z0), images)
    assert torch.equal(likeliest_pixels(cascade, decode(cascade, z1, steps=steps, tolerance=tolerance)), images)
    # The latents at gamma_1 are no longer the image.
    assert not torch.equal(likeliest_pixels(cascade, z1), images)


def test_too_few_steps_do_not_reproduce_images() -> None:
    cascade, images = small_cascade("haar", 2), random_pictures(2)
    coefficients = cascade.transform.forward(cascade.pixels(images))
    z0 = cascade.sample_z0(coefficients, tuple(torch.zeros_like(z) for z in coefficients))
    back = decode(cascade, encode(cascade, z0, steps=3), steps=3)
    assert not torch.equal(likeliest_pixels(cascade, back), images)
