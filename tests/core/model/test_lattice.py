import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcdm_core.model import lattice_residual


def brute_force(pixels: Tensor, sigma: float, levels: int) -> Tensor:
    """``u - E[f | u]`` with all levels enumerated."""
    lattice = (2 * torch.arange(levels, dtype=torch.float64) + 1) / levels - 1
    posterior = (-0.5 * ((pixels[..., None] - lattice) / sigma).square()).softmax(-1)
    return pixels - (posterior * lattice).sum(-1)


@given(
    levels=st.integers(2, 256),
    places=st.lists(st.tuples(st.floats(0, 1), st.floats(-8, 8)), min_size=1, max_size=8),
    relative=st.floats(0.02, 0.74),
)
def test_equals_the_posterior_mean_over_all_levels(
    levels: int, places: list[tuple[float, float]], relative: float
) -> None:
    step = 2 / levels
    # Any level, and up to eight standard deviations of noise.
    clean = [(2 * round(share * (levels - 1)) + 1) / levels - 1 for share, _ in places]
    noise = [relative * step * normal for _, normal in places]
    pixels = torch.tensor([f + eps for f, eps in zip(clean, noise, strict=True)], dtype=torch.float64)
    residual = lattice_residual(pixels, torch.tensor(relative * step, dtype=torch.float64), levels)
    expected = brute_force(pixels, relative * step, levels)
    torch.testing.assert_close(residual, expected, atol=1e-4 * step, rtol=1e-6)


@pytest.mark.parametrize("levels", [2, 3, 4, 256])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_knows_that_the_lattice_ends(levels: int, side: float) -> None:
    step = 2 / levels
    last_level = side * (1 - step / 2)
    outside = torch.tensor([last_level + side * step], dtype=torch.float64)
    residual = lattice_residual(outside, torch.tensor(0.2 * step, dtype=torch.float64), levels)
    assert float(residual) == pytest.approx(side * step, rel=1e-3)


def test_float32_is_enough_for_ordinary_images() -> None:
    pixels = torch.linspace(-1.01, 1.01, 4001, dtype=torch.float64)
    sigma = 0.17 * 2 / 256
    residual = lattice_residual(pixels.float(), torch.tensor(sigma), 256)
    torch.testing.assert_close(residual.double(), brute_force(pixels.float().double(), sigma, 256), atol=2e-5, rtol=0)


def test_broadcasts_the_noise_of_each_image() -> None:
    pixels = torch.rand(2, 1, 3, 3, dtype=torch.float64) * 2 - 1
    sigma = torch.tensor([0.01, 0.1], dtype=torch.float64)
    residual = lattice_residual(pixels, sigma[:, None, None, None], 8)
    rows = [lattice_residual(image, one, 8) for image, one in zip(pixels, sigma, strict=True)]
    assert torch.equal(residual, torch.stack(rows))


@pytest.mark.parametrize("relative", [0.75, 2.0, 1e4])
def test_zero_where_the_noise_hides_the_lattice(relative: float) -> None:
    residual = lattice_residual(torch.linspace(-1, 1, 99), torch.tensor(relative * 2 / 256), 256)
    assert torch.equal(residual, torch.zeros(99))


def test_what_is_left_out_at_strong_noise_is_negligible() -> None:
    step = 2 / 256
    inside = torch.linspace(-0.5, 0.5, 999, dtype=torch.float64)
    assert float(brute_force(inside, 0.75 * step, 256).abs().max()) < 2e-4 * step


@pytest.mark.parametrize("pixel", [-1.5, 1.5, 40.0])
def test_far_outside_the_lattice_its_edge_is_expected(pixel: float) -> None:
    pixels = torch.tensor([pixel], requires_grad=True)
    residual = lattice_residual(pixels, torch.tensor(0.17 * 2 / 256), 256)
    edge = 255 / 256 if pixel > 0 else -255 / 256
    assert float(residual.detach()) == pytest.approx(pixel - edge, rel=1e-5)
    (slope,) = torch.autograd.grad(residual.sum(), pixels)
    assert float(slope) == pytest.approx(1.0)
