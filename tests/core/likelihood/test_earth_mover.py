"""The wavelet distance against the exact one, which a linear program finds."""

from __future__ import annotations

from math import sqrt

import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from pcdm_core.likelihood import earth_mover_bound, wavelet_earth_mover
from pcdm_core.transforms import HaarTransform

SIDE = 8
FIELDS = arrays(np.float64, (SIDE, SIDE), elements=st.floats(-100, 100, width=32))
LARGEST_RATIO = 5 * SIDE / 2 - 3


def wavelet(field: NDArray[np.float64]) -> float:
    return float(wavelet_earth_mover(torch.from_numpy(field)[None, None]))


def exact(field: NDArray[np.float64]) -> float:
    field = field - field.mean()
    sources, sinks = np.argwhere(field > 0), np.argwhere(field < 0)
    supply, demand = field[field > 0], -field[field < 0]
    if not supply.sum() or not demand.sum():
        return 0.0
    ways = ot.dist(sources.astype(float), sinks.astype(float), metric="euclidean")
    return float(supply.sum() * ot.emd2(supply / supply.sum(), demand / demand.sum(), ways))


def moved(start: tuple[int, int], end: tuple[int, int], side: int = SIDE) -> NDArray[np.float64]:
    """A unit of mass at one pixel, and a lack of one at another."""
    field = np.zeros((side, side))
    field[start] += 1
    field[end] -= 1
    return field


@given(FIELDS)
def test_direction_does_not_matter(field: NDArray[np.float64]) -> None:
    assert wavelet(-field) == wavelet(field)


@given(FIELDS, st.floats(0, 1000))
def test_distance_grows_with_the_mass(field: NDArray[np.float64], factor: float) -> None:
    assert wavelet(factor * field) == pytest.approx(factor * wavelet(field), rel=1e-9, abs=1e-9)


@given(FIELDS, FIELDS)
def test_sum_of_fields_takes_no_more_than_its_summands(one: NDArray[np.float64], other: NDArray[np.float64]) -> None:
    assert wavelet(one + other) <= (wavelet(one) + wavelet(other)) * (1 + 1e-12)


@given(FIELDS, st.floats(-100, 100))
def test_mean_does_not_matter(field: NDArray[np.float64], mean: float) -> None:
    assert wavelet(field + mean) == pytest.approx(wavelet(field), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("side", [1, 2, 16])
@pytest.mark.parametrize("value", [0.0, -3.5])
def test_constant_fields_have_nothing_to_move(side: int, value: float) -> None:
    assert wavelet(np.full((side, side), value)) == 0


def test_moving_a_pixel_further_takes_more() -> None:
    # Mean over all places in a row: a single place sees only the powers of two that its way crosses.
    taken = [
        np.mean([wavelet(moved((5, start), (5, start + way), 16)) for start in range(16 - way)]) for way in range(1, 9)
    ]
    assert (np.diff(taken) > 1).all()


@given(FIELDS)
def test_exact_distance_is_bounded_from_both_sides(field: NDArray[np.float64]) -> None:
    distance = exact(field)
    assert distance * (1 - 1e-6) - 1e-6 <= wavelet(field) <= LARGEST_RATIO * distance * (1 + 1e-6) + 1e-6


def test_half_against_half_takes_just_the_exact_distance() -> None:
    field = np.repeat([[1.0], [-1.0]], SIDE // 2, axis=0) * np.ones(SIDE)
    assert wavelet(field) == pytest.approx(exact(field))


def test_step_across_the_middle_is_farthest_from_the_exact_distance() -> None:
    pixels = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    ratios = {
        (start, end): wavelet(moved(start, end)) / float(np.hypot(start[0] - end[0], start[1] - end[1]))
        for start in pixels
        for end in pixels
        if start < end
    }
    assert max(ratios.values()) == pytest.approx(LARGEST_RATIO)
    assert ratios[(3, 3), (3, 4)] == pytest.approx(LARGEST_RATIO)


def test_white_noise_is_about_three_times_the_exact_distance() -> None:
    # Of these 200 fields it is 2.79 times in the mean, and from 1.73 to 3.80 times.
    fields = np.random.default_rng(0).standard_normal((200, SIDE, SIDE))
    ratios = np.array([wavelet(field) / exact(field) for field in fields])
    assert 2.7 < ratios.mean() < 2.9
    assert ratios.min() > 1.6
    assert ratios.max() < 4.0


def test_fields_of_a_batch_are_apart() -> None:
    fields = torch.randn(3, 5, 16, 16)
    alone = torch.stack([wavelet_earth_mover(fields[b : b + 1, c : c + 1])[0, 0] for b in range(3) for c in range(5)])
    torch.testing.assert_close(wavelet_earth_mover(fields), alone.view(3, 5))


def test_single_precision_is_summed_in_double() -> None:
    fields = torch.randn(2, 3, 8, 8)
    distance = wavelet_earth_mover(fields)
    assert distance.dtype == torch.float64
    torch.testing.assert_close(distance, wavelet_earth_mover(fields.double()), rtol=0, atol=0)


def test_no_fields_give_no_distances() -> None:
    assert wavelet_earth_mover(torch.empty(0, 3, 8, 8)).shape == (0, 3)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 1, 1, 8, 8)])
def test_other_than_four_dimensions_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected fields \[B, C, N, N\]"):
        wavelet_earth_mover(torch.zeros(shape))


@pytest.mark.parametrize("sides", [(8, 16), (12, 12), (7, 7), (0, 0)])
def test_other_sides_than_equal_powers_of_two_are_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="power of two"):
        wavelet_earth_mover(torch.zeros(1, 1, *sides))


@given(FIELDS)
def test_squared_error_bounds_the_wavelet_distance(field: NDArray[np.float64]) -> None:
    bound = float(earth_mover_bound(torch.tensor((field**2).sum()), SIDE))
    assert wavelet(field) <= bound * (1 + 1e-12)


@pytest.mark.parametrize("side", [2, 8, 32])
def test_bound_is_attained_by_coefficients_as_large_as_their_weights(side: int) -> None:
    transform = HaarTransform((1, side, side), side.bit_length())
    sizes = [2**level for level in range(side.bit_length() - 1)]
    details: list[Tensor] = [torch.full((1, 3, n, n), (side / (2 * n)) ** 2, dtype=torch.float64) for n in sizes]
    field = transform.inverse((torch.zeros(1, 1, 1, 1, dtype=torch.float64), *details))
    bound = earth_mover_bound(field.square().sum((2, 3)), side)
    torch.testing.assert_close(wavelet_earth_mover(field), bound)


def test_slope_takes_a_fixed_share_of_the_bound() -> None:
    # So whatever constant a bound of the exact distance has, it is not below 1 / sqrt(3) of this one.
    slope = np.arange(SIDE) - (SIDE - 1) / 2 + np.zeros((SIDE, 1))
    bound = float(earth_mover_bound(torch.tensor((slope**2).sum()), SIDE))
    assert bound / exact(slope) == pytest.approx(sqrt(3))
