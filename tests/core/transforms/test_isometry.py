"""Every volume-preserving transform is an isometry, whatever the image holds."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdm_core.transforms import TRANSFORMS, Shape, Transform

CONTENTS = ["checkerboard", "constant", "noise", "impulse", "stripes"]
ISOMETRIES = [("identity", 1), ("haar", 2), ("haar", 3), ("laplacian", 2), ("laplacian", 3)]
isometries = st.sampled_from(ISOMETRIES)
shapes = st.tuples(st.sampled_from([1, 3]), st.sampled_from([4, 8, 12]), st.sampled_from([4, 8, 12]))


def content(kind: str, shape: Shape, seed: int) -> Tensor:
    """One float32 image in [-1, 1], ``[1, *shape]``."""
    generator = torch.Generator().manual_seed(seed)
    _, height, width = shape
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    sign = 1.0 - 2.0 * (seed % 2)
    images = {
        "checkerboard": sign * (1.0 - 2.0 * ((rows + columns) % 2)),
        "constant": sign * torch.ones(height, width),
        "noise": 2 * torch.rand(shape, generator=generator) - 1,
        "impulse": sign * ((rows == seed % height) & (columns == seed % width)).float(),
        "stripes": sign * (1.0 - 2.0 * (columns % 2)) * torch.ones(height, 1),
    }
    return images[kind].expand(1, *shape).contiguous()


def jacobian(transform: Transform) -> Tensor:
    """``h`` as a dense matrix, ``[coefficients, pixels]``, float64."""
    basis = torch.eye(prod(transform.image_shape), dtype=torch.float64).view(-1, *transform.image_shape)
    return torch.cat([z.flatten(1) for z in transform.forward(basis)], dim=1).T


@given(isometries, shapes, st.sampled_from(CONTENTS), st.integers(0, 2**16))
def test_inverse_reconstructs(which: tuple[str, int], shape: Shape, kind: str, seed: int) -> None:
    transform = TRANSFORMS[which[0]](shape, which[1])
    image = content(kind, shape, seed)
    assert (transform.inverse(transform.forward(image)) - image).abs().max() < 1e-5


@given(isometries, shapes, st.sampled_from(CONTENTS), st.integers(0, 2**16))
def test_squared_norm_is_kept(which: tuple[str, int], shape: Shape, kind: str, seed: int) -> None:
    image = content(kind, shape, seed)
    scales = TRANSFORMS[which[0]](shape, which[1]).forward(image)
    total = sum(float(z.double().square().sum()) for z in scales)
    assert total == pytest.approx(float(image.double().square().sum()), rel=1e-5)


@given(isometries, shapes)
@settings(max_examples=25)
def test_jacobian_is_an_isometry_of_volume_one(which: tuple[str, int], shape: Shape) -> None:
    matrix = jacobian(TRANSFORMS[which[0]](shape, which[1]))
    assert torch.allclose(matrix.T @ matrix, torch.eye(prod(shape), dtype=torch.float64), atol=1e-12)
    assert float(torch.linalg.svdvals(matrix).prod()) == pytest.approx(1.0, abs=1e-9)


@given(isometries, shapes)
@settings(max_examples=25)
def test_noise_has_the_projection_as_covariance(which: tuple[str, int], shape: Shape) -> None:
    transform = TRANSFORMS[which[0]](shape, which[1])
    # Noise is linear in the white numbers: its covariance is the Gram matrix of the images of a basis.
    noise = transform.noise(torch.eye(transform.noise_dimensions, dtype=torch.float64))
    for scale, eps in enumerate(noise, start=1):
        size = prod(transform.shape(scale))
        basis = torch.eye(size, dtype=torch.float64).view(-1, *transform.shape(scale))
        projection = transform.project(scale, basis).flatten(1)
        assert torch.allclose(eps.flatten(1).T @ eps.flatten(1), projection, atol=1e-12)
        assert float(projection.trace()) == pytest.approx(transform.rank(scale))


@pytest.mark.parametrize(("name", "scales"), ISOMETRIES)
def test_noise_is_independent_between_scales(name: str, scales: int) -> None:
    transform = TRANSFORMS[name]((1, 8, 4), scales)
    noise = [eps.flatten(1) for eps in transform.noise(torch.eye(transform.noise_dimensions, dtype=torch.float64))]
    for first in range(scales):
        for second in range(first):
            assert float((noise[first].T @ noise[second]).abs().max()) < 1e-12


@pytest.mark.parametrize(("name", "scales"), ISOMETRIES)
def test_ranks_add_up_to_the_dimensions_of_the_image(name: str, scales: int) -> None:
    transform = TRANSFORMS[name]((3, 8, 12), scales)
    assert sum(transform.rank(scale) for scale in range(1, scales + 1)) == 3 * 8 * 12


@given(shapes, st.integers(0, 2**16))
def test_laplacian_projection_is_idempotent_and_keeps_details(shape: Shape, seed: int) -> None:
    transform = TRANSFORMS["laplacian"](shape, 2)
    array = content("noise", shape, seed).double()
    once = transform.project(2, array)
    assert torch.allclose(transform.project(2, once), once, atol=1e-12)
    assert torch.allclose(transform.forward(array)[1], once, atol=1e-12)
    assert not torch.allclose(once, array, atol=1e-3)


@given(shapes, st.sampled_from(CONTENTS), st.integers(0, 2**16))
def test_haar_agrees_with_pywavelets(shape: Shape, kind: str, seed: int) -> None:
    transform = TRANSFORMS["haar"](shape, 2)
    image = content(kind, shape, seed).double()
    coarse, detail = transform.forward(image)
    expected_coarse, expected_details = pywt.dwt2(image.numpy(), "haar", mode="periodization")
    assert transform.bands(2) == ("horizontal", "vertical", "diagonal")
    np.testing.assert_allclose(coarse.numpy(), expected_coarse, atol=1e-12)
    for band, expected in zip(detail.chunk(3, dim=1), expected_details, strict=True):
        np.testing.assert_allclose(band.numpy(), expected, atol=1e-12)


def test_downsample_does_not_preserve_volume_and_says_so() -> None:
    transform = TRANSFORMS["downsample"]((1, 4, 4), 2)
    values = torch.linalg.svdvals(jacobian(transform))
    assert not transform.volume_preserving
    assert float(values.prod()) > 1.1


@pytest.mark.parametrize("name", ["identity", "haar", "laplacian"])
def test_isometries_say_that_they_preserve_volume(name: str) -> None:
    assert TRANSFORMS[name].volume_preserving


@pytest.mark.parametrize("name", ["haar", "laplacian", "downsample"])
@pytest.mark.parametrize("shape", [(1, 6, 8), (1, 8, 6)])
def test_a_side_that_does_not_divide_is_refused(name: str, shape: Shape) -> None:
    with pytest.raises(ValueError, match=r"3 scales need an image whose sides are multiples of 4, got 1x"):
        TRANSFORMS[name](shape, 3)


def test_the_identity_refuses_several_scales() -> None:
    with pytest.raises(ValueError, match="identity has one scale"):
        TRANSFORMS["identity"]((1, 4, 4), 2)


def test_an_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="expected images"):
        TRANSFORMS["haar"]((1, 4, 4), 2).forward(torch.zeros(1, 1, 8, 8))
