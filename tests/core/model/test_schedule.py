import pytest
import torch
from torch import Tensor

from pcdm_core.model import NoiseSchedule, alpha_sigma

LOW, HIGH = -13.3, 5.0


def bent_schedule(scales: int = 3, bins: int = 16) -> NoiseSchedule:
    schedule = NoiseSchedule(LOW, HIGH, scales, bins)
    with torch.no_grad():
        schedule.logits.copy_(2 * torch.randn(scales, bins, generator=torch.Generator().manual_seed(3)))
    return schedule


def error_profile(gamma: Tensor) -> Tensor:
    """A known ``E||eps - eps_hat||^2``: smooth, and nowhere below what the uniform share of the density allows."""
    return 30 * (1 + 0.8 * torch.sin(0.3 * gamma))


def fine_grid(points: int = 16_000) -> Tensor:
    return LOW + (torch.arange(points, dtype=torch.float64) + 0.5) / points * (HIGH - LOW)


def second_moment(schedule: NoiseSchedule) -> float:
    """``Int err^2 / p dgamma`` of the schedule of scale 1."""
    gamma = fine_grid()
    return float((error_profile(gamma).square() / schedule.density(1, gamma).detach()).mean() * (HIGH - LOW))


def descend(schedule: NoiseSchedule, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(schedule.parameters(), lr=0.03)
    for _ in range(steps):
        times = (torch.rand((), generator=generator) + torch.arange(256) / 256) % 1.0
        gamma, _ = schedule(1, times)
        optimizer.zero_grad()
        schedule.variance_loss(1, gamma, error_profile(gamma)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def test_signal_and_noise_preserve_variance() -> None:
    alpha, sigma = alpha_sigma(torch.linspace(LOW, HIGH, 50, dtype=torch.float64))
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(50, dtype=torch.float64))


def test_gamma_is_the_negative_log_signal_to_noise_ratio() -> None:
    gamma = torch.linspace(LOW, HIGH, 50, dtype=torch.float64)
    alpha, sigma = alpha_sigma(gamma)
    torch.testing.assert_close(-torch.log(alpha.square() / sigma.square()), gamma)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_gamma_never_falls(scale: int) -> None:
    gamma, _ = bent_schedule()(scale, torch.linspace(0, 1, 5000))
    assert (gamma.diff() > 0).all()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_ends_are_exact(scale: int) -> None:
    gamma, _ = bent_schedule()(scale, torch.tensor([0.0, 1.0]))
    assert gamma.tolist() == torch.tensor([LOW, HIGH]).tolist()


def test_a_fresh_schedule_is_linear() -> None:
    times = torch.linspace(0, 1, 101)
    gamma, slope = NoiseSchedule(LOW, HIGH, 1, 64)(1, times)
    torch.testing.assert_close(gamma, LOW + (HIGH - LOW) * times, atol=1e-5, rtol=0)
    torch.testing.assert_close(slope, torch.full((101,), HIGH - LOW))


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_slope_is_the_derivative(scale: int) -> None:
    schedule = bent_schedule()
    # Away from the kinks, where the derivative jumps.
    times = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.998 + 0.001
    step = 1e-4
    gamma_before, slope_before = schedule(scale, times - step)
    gamma_after, slope_after = schedule(scale, times + step)
    smooth = slope_before == slope_after
    assert smooth.double().mean() > 0.9
    difference = (gamma_after - gamma_before) / (2 * step)
    torch.testing.assert_close(difference[smooth], slope_before[smooth], atol=0.02, rtol=2e-3)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_density_integrates_to_one(scale: int) -> None:
    density = bent_schedule().density(scale, fine_grid()).detach().double()
    assert float(density.mean() * (HIGH - LOW)) == pytest.approx(1, abs=1e-5)


def test_density_is_the_reciprocal_slope() -> None:
    schedule = bent_schedule()
    gamma, slope = schedule(2, (torch.arange(999) + 0.5) / 999)
    agree = torch.isclose(schedule.density(2, gamma), 1 / slope, rtol=1e-5)
    assert agree.double().mean() > 0.98  # rounding may move a point over the edge of a bin


def test_no_noise_level_is_starved() -> None:
    schedule = NoiseSchedule(LOW, HIGH, 1, 4)
    with torch.no_grad():
        schedule.logits[0, 0] = 1000.0
    assert float(schedule.density(1, torch.tensor(HIGH)).detach()) == pytest.approx(0.1 / (HIGH - LOW))


def test_scales_have_schedules_of_their_own() -> None:
    schedule = bent_schedule()
    middle = torch.tensor([0.5])
    assert not torch.equal(schedule(1, middle)[0], schedule(2, middle)[0])


def test_times_carry_no_gradient() -> None:
    gamma, slope = bent_schedule()(1, torch.rand(4))
    assert not gamma.requires_grad
    assert not slope.requires_grad


def test_descent_lowers_the_second_moment() -> None:
    schedule = bent_schedule(scales=1)
    before = second_moment(schedule)
    descend(schedule, 40)
    assert second_moment(schedule) < 0.7 * before


def test_descent_ends_where_density_is_proportional_to_error() -> None:
    schedule = NoiseSchedule(LOW, HIGH, 1, 16)
    descend(schedule, 200)
    gamma = fine_grid().view(16, -1)
    errors = error_profile(gamma).square().mean(1).sqrt()
    density = schedule.density(1, gamma)[:, 0].detach().double()
    torch.testing.assert_close(density, errors / errors.mean() / (HIGH - LOW), rtol=0.06, atol=0)


def test_variance_loss_does_not_depend_on_the_size_of_the_error() -> None:
    schedule = bent_schedule()
    gamma, _ = schedule(1, torch.rand(64))
    loss = schedule.variance_loss(1, gamma, error_profile(gamma))
    torch.testing.assert_close(schedule.variance_loss(1, gamma, 1000 * error_profile(gamma)), loss)
