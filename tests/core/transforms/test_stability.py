"""Rounding: how much forward and inverse lose in float32 and bfloat16, on contents that are hard on them.

Errors are relative to the Euclidean norm of the image, in units of the unit roundoff u (half of eps): an isometry
passes them on as they are, so those of single operations add up. Each scale above the first takes

* haar, either way: two additions one after the other, 2 u;
* laplacian, forward: a reduction and an expansion, each of two matrix products, and a subtraction. A product counts
  2 u, for the filter's taps and for the sum (of four terms; its own roundings hardly add up). 9 u in all;
* laplacian, inverse: an expansion and an addition, 5 u. After a forward pass the *same* expansion is added that was
  subtracted, so that only the subtraction and the addition are lost: 2 u.

The constants are worst cases of independent roundings to first order; measured at S = 2, they are reached within a
factor of three to five (`test_bounds_are_tight`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hard_contents import SIDE, hard_pixels
from torch import Tensor

from pcdm_core.transforms import TRANSFORMS, Transform

Direction = Literal["forward", "inverse", "round trip"]
ROUNDINGS: dict[tuple[str, Direction], int] = {
    ("haar", "forward"): 2,
    ("haar", "inverse"): 2,
    ("haar", "round trip"): 4,
    ("laplacian", "forward"): 9,
    ("laplacian", "inverse"): 5,
    ("laplacian", "round trip"): 2,
}
DTYPES = [torch.float32, torch.bfloat16]
EVERY_SCALE = [1, 2, 3, 4]


def distance(arrays: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> float:
    return float(sum((one.double() - other).square().sum() for one, other in zip(arrays, exact, strict=True)) ** 0.5)


def forward_error(transform: Transform, image: Tensor) -> float:
    return distance(transform.forward(image), transform.forward(image.double()))


def inverse_error(transform: Transform, image: Tensor) -> float:
    coefficients = transform.forward(image)
    return distance((transform.inverse(coefficients),), (transform.inverse(tuple(z.double() for z in coefficients)),))


def round_trip_error(transform: Transform, image: Tensor) -> float:
    return distance((transform.inverse(transform.forward(image)),), (image.double(),))


ERRORS: dict[Direction, Callable[[Transform, Tensor], float]] = {
    "forward": forward_error,
    "inverse": inverse_error,
    "round trip": round_trip_error,
}


def worst_error(name: str, scales: int, direction: Direction, dtype: torch.dtype) -> float:
    """Over all contents, in units of the unit roundoff of ``dtype``."""
    transform = TRANSFORMS[name]((1, SIDE, SIDE), scales)
    images = [image.to(dtype) for image in hard_pixels().values()]
    relative = [ERRORS[direction](transform, image) / float(image.double().norm()) for image in images]
    return max(relative) / (torch.finfo(dtype).eps / 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scales", EVERY_SCALE)
@pytest.mark.parametrize(("name", "direction"), ROUNDINGS)
def test_errors_are_bounded_by_the_roundings(name: str, direction: Direction, scales: int, dtype: torch.dtype) -> None:
    assert worst_error(name, scales, direction, dtype) <= ROUNDINGS[name, direction] * (scales - 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "direction"), ROUNDINGS)
def test_bounds_are_tight(name: str, direction: Direction, dtype: torch.dtype) -> None:
    assert worst_error(name, 2, direction, dtype) > ROUNDINGS[name, direction] / 10


@pytest.mark.parametrize("scales", EVERY_SCALE)
def test_haar_of_pixels_is_exact_in_float32(scales: int) -> None:
    # Pixels are odd multiples of 1/256. Each step halves the unit and doubles the range: 9 binary digits become
    # 9 + 2 (S - 1), and 24 fit.
    transform = TRANSFORMS["haar"]((1, SIDE, SIDE), scales)
    pixels = [image for name, image in hard_pixels().items() if "noise" not in name]
    assert all(forward_error(transform, image.float()) == 0 for image in pixels)
    assert all(round_trip_error(transform, image.float()) == 0 for image in pixels)


@pytest.mark.parametrize("scales", EVERY_SCALE)
@pytest.mark.parametrize("name", ["haar", "laplacian", "downsample"])
def test_autocast_leaves_the_transform_in_float32(name: str, scales: int) -> None:
    # A step between levels is eps of bfloat16: rounded coefficients would no longer tell on which level a pixel is.
    transform = TRANSFORMS[name]((1, SIDE, SIDE), scales)
    for image in hard_pixels().values():
        plain = transform.forward(image.float())
        with torch.autocast("cpu", torch.bfloat16):
            coefficients = transform.forward(image.float())
            back, projected = transform.inverse(coefficients), transform.project(scales, coefficients[-1])
        assert all(torch.equal(z, expected) for z, expected in zip(coefficients, plain, strict=True))
        assert torch.equal(back, transform.inverse(plain))
        assert torch.equal(projected, transform.project(scales, plain[-1]))
