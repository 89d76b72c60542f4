"""The cascade: a transform, a schedule and a noise predictor for each scale."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import cast

import torch
from torch import Tensor, nn

from pcdm_core.model.config import CascadeConfig
from pcdm_core.model.predictor import NoisePredictor, PredictsNoise
from pcdm_core.model.schedule import NoiseSchedule, alpha_sigma

__all__ = ["Cascade", "CascadeLoss", "squared_error"]


def squared_error(noise: Tensor, predicted_noise: Tensor) -> Tensor:
    """``||eps - eps_hat||^2`` of each image, ``[B]``."""
    return (noise - predicted_noise).square().flatten(1).sum(1)


@dataclass(frozen=True)
class CascadeLoss:
    """One training step's loss.

    Attributes:
        bound: Mean bound without its parameter-free terms (reconstruction, prior), bits/dim, scalar with gradient.
        schedule: Scalar whose gradient trains the schedules' interior only.
        scales: The part of `bound` that each scale has, bits/dim, ``[S]``, no gradient.
    """

    bound: Tensor
    schedule: Tensor
    scales: Tensor


class Cascade(nn.Module):
    """A probabilistic cascaded diffusion model (PCDM, arXiv 2501.06999).

    Attributes:
        config: What built it.
        transform: ``h``.
        schedule: ``gamma_s(t)``.
        predictors: ``eps_hat_s`` by scale, coarse to fine.
    """

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        self.transform = config.build_transform()
        self.schedule = NoiseSchedule(config.gamma_min, config.gamma_max, config.scales, config.schedule_bins)
        self.predictors = nn.ModuleList(
            NoisePredictor(config, self.transform, scale) for scale in range(1, config.scales + 1)
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.schedule.logits.device

    def predictor(self, scale: int) -> PredictsNoise:
        """The noise predictor of a scale, 1 (coarsest) to S."""
        return cast(PredictsNoise, self.predictors[scale - 1])

    def pixels(self, images: Tensor) -> Tensor:
        """``f = 2 (x + 1/2) / levels - 1``: integer images ``[B, C, H, W]`` to float32 in (-1, 1)."""
        return (2 * images.float() + 1) / self.config.levels - 1

    def predicted_noise(self, scale: int, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
        """``P_s eps_hat_s(z_t^(s); gamma, z_0^(<s))``, of the shape of ``z``; see `PredictsNoise`."""
        return self.transform.project(scale, self.predictor(scale)(z, gamma, condition))

    def observed(self, scale: int, z: Tensor, gamma: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `predicted_noise`, and what the U-Net has in its middle meanwhile, ``[B, C, h, w]``.

        Raises:
            ValueError: If the predictor of that scale has no U-Net.
        """
        predictor = self.predictors[scale - 1]
        if not isinstance(predictor, NoisePredictor):
            raise ValueError(f"activations: a {type(predictor).__name__} has no U-Net")
        predicted, middle = predictor.observed(z, gamma, condition)
        return self.transform.project(scale, predicted), middle

    def sample_z0(self, coefficients: tuple[Tensor, ...], noise: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """``z_0^(s) = alpha_0 z^(s) + sigma_0 eps^(s)`` of the given scales."""
        alpha, sigma = alpha_sigma(torch.tensor(self.config.gamma_min, dtype=torch.float64))
        return tuple(float(alpha) * z + float(sigma) * eps for z, eps in zip(coefficients, noise, strict=True))

    def condition(self, scale: int, z0: tuple[Tensor, ...]) -> Tensor | None:
        """What the network of ``scale`` is shown of the coarser ones.

        Args:
            scale: 1 to S.
            z0: The *sampled* ``z_0`` of all scales, or of those below ``scale``. The clean coefficients would leak on
                which lattice the pixels lie, and the sum of the scales would no longer be a likelihood.

        Returns:
            The coarse image at its own resolution, or None at scale 1.
        """
        return None if scale == 1 else self.transform.inverse(z0[: scale - 1])

    def training_loss(self, images: Tensor, generator: torch.Generator) -> CascadeLoss:
        """Monte Carlo estimate of the bound's diffusion terms, one noise level for each image and scale.

        Args:
            images: uint8, ``[B, C, H, W]``.
            generator: Source of times and noise, on the CPU.
        """
        batch = len(images)
        coefficients = self.transform.forward(self.pixels(images))
        size = (batch, self.transform.noise_dimensions)
        noise0, noise = (self.transform.noise(torch.randn(size, generator=generator).to(self.device)) for _ in range(2))
        z0 = self.sample_z0(coefficients, noise0)
        # Low-discrepancy times (VDM, appendix): one random offset, then evenly spread, in another order for each scale.
        offsets = (torch.rand((), generator=generator) + torch.arange(batch) / batch) % 1.0
        bound = torch.zeros((), device=self.device)
        schedule = torch.zeros((), device=self.device)
        scales = []
        for scale, (z, eps) in enumerate(zip(coefficients, noise, strict=True), start=1):
            t = offsets[torch.randperm(batch, generator=generator)].to(self.device)
            gamma, slope = self.schedule(scale, t)
            alpha, sigma = alpha_sigma(gamma[:, None, None, None])
            predicted = self.predicted_noise(scale, alpha * z + sigma * eps, gamma, self.condition(scale, z0))
            error = squared_error(eps, predicted)
            bits_per_dim = (0.5 * slope * error).mean() / (self.config.dimensions * log(2))
            bound = bound + bits_per_dim
            schedule = schedule + self.schedule.variance_loss(scale, gamma, error)
            scales.append(bits_per_dim.detach())
        return CascadeLoss(bound, schedule, torch.stack(scales))

    @torch.no_grad()
    def fit_variance(self, images: Tensor) -> None:
        """Measure the coefficients' variances, which the predictors are scaled by, on training images (uint8)."""
        for predictor, z in zip(self.predictors, self.transform.forward(self.pixels(images)), strict=True):
            cast(NoisePredictor, predictor).fit_variance(z)
