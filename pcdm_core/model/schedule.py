"""Learned noise schedules, one for each scale, between shared ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["NoiseSchedule", "alpha_sigma"]


def alpha_sigma(gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitudes, ``alpha^2 = sigmoid(-gamma)`` and ``sigma^2 = sigmoid(gamma)``."""
    return torch.sigmoid(-gamma).sqrt(), torch.sigmoid(gamma).sqrt()


class NoiseSchedule(nn.Module):
    """Monotone ``gamma_s(t)`` for each scale: the inverse of a piecewise linear distribution function.

    Seen from gamma, a schedule is the density ``1 / gamma'`` on [gamma_0, gamma_1] with which noise levels are drawn.
    The bound does not depend on it, only the variance of its estimate does, so the density is trained to make that
    small (VDM, appendix on the variance-minimising schedule). A tenth of it stays uniform, so that no noise level is
    ever starved.
    """

    uniform_share = 0.1

    def __init__(self, gamma_min: float, gamma_max: float, scales: int, bins: int) -> None:
        super().__init__()
        self.gamma_min = gamma_min
        self.gamma_max = gamma_max
        self.width = (gamma_max - gamma_min) / bins
        self.logits = nn.Parameter(torch.zeros(scales, bins))

    def _masses(self, scale: int) -> Tensor:
        """Probability of each bin, ``[bins]``; float64, as it is summed up and inverted."""
        logits = self.logits[scale - 1].double()
        return (1 - self.uniform_share) * logits.softmax(0) + self.uniform_share / len(logits)

    @torch.no_grad()
    def forward(self, scale: int, t: Tensor) -> tuple[Tensor, Tensor]:
        """``gamma_s(t)`` and ``gamma_s'(t)``.

        Args:
            scale: 1 (coarsest) to S.
            t: Times in [0, 1], any shape.

        Returns:
            Two float32 tensors of the shape of ``t``. No gradient: see `variance_loss`.
        """
        masses = self._masses(scale)
        ends = masses.cumsum(0)
        time = t.double()
        index = torch.searchsorted(ends[:-1].contiguous(), time.contiguous())
        mass = masses[index]
        inside = (time - (ends[index] - mass)) / mass
        gamma = self.gamma_min + self.width * (index + inside.clamp(0.0, 1.0))
        return gamma.float(), (self.width / mass).float()

    def density(self, scale: int, gamma: Tensor) -> Tensor:
        """Density ``1 / gamma'`` at noise levels ``gamma``, with gradient."""
        masses = self._masses(scale)
        index = ((gamma.double() - self.gamma_min) / self.width).long().clamp(0, len(masses) - 1)
        return (masses[index] / self.width).float()

    def variance_loss(self, scale: int, gamma: Tensor, squared_error: Tensor) -> Tensor:
        """A scalar whose gradient lowers the variance of the bound's estimate.

        The second moment of the estimate is ``Int err(gamma)^2 / p(gamma) dgamma``; with gamma drawn from ``p``
        itself, its gradient is that of ``-E[(err / p)^2 log p]`` with the square held fixed. Divided by its mean, so
        that the step does not depend on the size of the error.

        Args:
            scale: 1 to S.
            gamma: Noise levels as drawn from this schedule, ``[B]``.
            squared_error: ``||eps - eps_hat||^2`` of each, ``[B]``.
        """
        density = self.density(scale, gamma)
        weight = (squared_error / density).detach().square()
        return -(weight / weight.mean() * density.log()).mean()
