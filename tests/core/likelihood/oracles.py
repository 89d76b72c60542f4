"""Denoisers that are known to be the best possible, and the bound of a cascade that runs on them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import log

import torch
from torch import Tensor, nn

from pcdm_core.likelihood import gauss_legendre, prior, reconstruction
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig, alpha_sigma, squared_error
from pcdm_core.transforms import Transform


def lattice_gamma(levels: int) -> float:
    """gamma_0 at which the noise is a sixth of the step between levels: -13.3 for 256 levels."""
    return 2 * log(2 / levels / 6)


def small_config(
    transform: str, scales: int, shape: tuple[int, int, int], *, levels: int, gamma_min: float, gamma_max: float = 12.0
) -> CascadeConfig:
    network = NetworkConfig(channels=16, blocks=1, attention=False, fourier=())
    return CascadeConfig(
        image_shape=shape,
        transform=transform,
        networks=(network,) * scales,
        gamma_min=gamma_min,
        gamma_max=gamma_max,
        levels=levels,
    )


def all_images(levels: int) -> Tensor:
    """Every 2x2 grey image, uint8, ``[levels ** 4, 1, 2, 2]``."""
    return torch.tensor(list(product(range(levels), repeat=4)), dtype=torch.uint8).view(-1, 1, 2, 2)


def clean_coefficients(cascade: Cascade, images: Tensor) -> tuple[Tensor, ...]:
    return cascade.transform.forward(cascade.pixels(images))


def coarse_images(transform: Transform, coefficients: tuple[Tensor, ...], scale: int) -> Tensor | None:
    """The clean coarse image below ``scale``, flattened; None at scale 1."""
    return None if scale == 1 else transform.inverse(coefficients[: scale - 1]).flatten(1)


def measured_std(transform: Transform, scale: int) -> float:
    """Standard deviation of ``eps^(scale)`` in each of its dimensions; 1 for every isometry."""
    basis = torch.eye(transform.noise_dimensions, dtype=torch.float64)
    return float((transform.noise(basis)[scale - 1].square().sum() / transform.rank(scale)).sqrt())


class EnumeratedDenoiser(nn.Module):
    """``E[eps | z_t, condition]`` when the image is one of finitely many, all equally likely.

    Args:
        z: Coefficients of each image, ``[N, *shape(s)]``.
        coarse: Coarse image of each, ``[N, d]``, or None at scale 1.
        std: Standard deviation of the noise in ``z``, relative to sigma.
        condition_alpha: Amplitude of the coarse image in the condition.
        condition_std: Standard deviation of the noise in the condition.
    """

    def __init__(
        self, z: Tensor, coarse: Tensor | None, *, std: float, condition_alpha: float, condition_std: float
    ) -> None:
        super().__init__()
        self.z, self.coarse, self.std = z.flatten(1), coarse, std
        self.condition_alpha, self.condition_std = condition_alpha, condition_std

    @staticmethod
    def _log_likelihood(seen: Tensor, clean: Tensor, alpha: Tensor, std: Tensor) -> Tensor:
        """``log N(seen; alpha clean, std^2)`` up to what all clean candidates share, ``[B, N]``."""
        return (alpha * (seen @ clean.T) - 0.5 * alpha.square() * clean.square().sum(1)) / std.square()

    def forward(self, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
        seen = z.flatten(1)
        alpha, sigma = alpha_sigma(gamma[:, None])
        logits = self._log_likelihood(seen, self.z, alpha, sigma * self.std)
        if condition is not None:
            assert self.coarse is not None
            amplitude = torch.full_like(alpha, self.condition_alpha)
            std = torch.full_like(alpha, self.condition_std)
            logits = logits + self._log_likelihood(condition.flatten(1), self.coarse, amplitude, std)
        return ((seen - alpha * (logits.softmax(1) @ self.z)) / sigma).view_as(z)


def install_enumerated(cascade: Cascade, images: Tensor, *, clean_condition: bool = False) -> None:
    """Make the Bayes-optimal denoiser of equally likely ``images`` the networks of ``cascade``."""
    transform, coefficients = cascade.transform, clean_coefficients(cascade, images)
    alpha, sigma = (float(a) for a in alpha_sigma(torch.tensor(cascade.config.gamma_min, dtype=torch.float64)))
    if clean_condition:
        alpha, sigma = 1.0, 1e-2
    predictors = []
    for scale, z in enumerate(coefficients, start=1):
        coarse = coarse_images(transform, coefficients, scale)
        # The coarse image below scale s is an isometric image of scales 1..s-1; they all have the noise of scale 1.
        std = measured_std(transform, 1)
        predictors.append(
            EnumeratedDenoiser(
                z,
                coarse,
                std=measured_std(transform, scale),
                condition_alpha=alpha,
                condition_std=sigma * std,
            )
        )
    cascade.predictors = nn.ModuleList(predictors)


@dataclass(frozen=True)
class Terms:
    """Terms of the bound in nats, one row for each image: reconstruction, prior and diffusion of each scale."""

    reconstruction: Tensor
    prior: Tensor
    diffusion: Tensor

    @property
    def total(self) -> Tensor:
        return self.reconstruction + self.prior.sum(1) + self.diffusion.sum(1)


def diffusion_terms(
    cascade: Cascade,
    coefficients: tuple[Tensor, ...],
    shown: tuple[Tensor, ...],
    generator: torch.Generator,
    *,
    nodes: int,
    variance: float,
) -> Tensor:
    """``1/2 Int gamma' ||eps - eps_hat||^2 dt`` of each scale, one draw of noise a node, ``[B, S]``.

    Args:
        cascade: The model.
        coefficients: Clean coefficients.
        shown: Coefficients that the condition is made of: the sampled ``z_0`` (or, wrongly, the clean ones).
        generator: Source of the noise.
        nodes: Of the Gauss-Legendre rule.
        variance: Of a coefficient, about; weighs the control variate ``||eps||^2 - rank``, whose mean is zero, by the
            squared share of the noise that a linear guess leaves (any weight gives the same mean).
    """
    batch, transform = len(coefficients[0]), cascade.transform
    dtype = coefficients[0].dtype
    totals = torch.zeros(batch, transform.scales, dtype=torch.float64)
    rank_of_noise = [transform.rank(s) * measured_std(transform, s) ** 2 for s in range(1, transform.scales + 1)]
    for time, weight in zip(*gauss_legendre(nodes), strict=True):
        noise = transform.noise(torch.randn(batch, transform.noise_dimensions, generator=generator, dtype=dtype))
        for scale, (z, eps) in enumerate(zip(coefficients, noise, strict=True), start=1):
            gamma, slope = cascade.schedule(scale, torch.full((batch,), float(time)))
            alpha, sigma = alpha_sigma(gamma.to(dtype)[:, None, None, None])
            predicted = cascade.predicted_noise(scale, alpha * z + sigma * eps, gamma, cascade.condition(scale, shown))
            error = squared_error(eps, predicted).double()
            signal = (alpha.square() * variance).flatten().double()
            share = signal / (signal + sigma.flatten().double().square())
            error = error - share.square() * (eps.square().flatten(1).sum(1).double() - rank_of_noise[scale - 1])
            totals[:, scale - 1] += 0.5 * float(weight) * slope.double() * error
    return totals


@torch.no_grad()
def bound_terms(
    cascade: Cascade,
    images: Tensor,
    generator: torch.Generator,
    *,
    nodes: int,
    clean_condition: bool = False,
) -> Terms:
    """One draw of every term of the bound of every image."""
    coefficients = clean_coefficients(cascade, images)
    size = (len(images), cascade.transform.noise_dimensions)
    z0 = cascade.sample_z0(coefficients, cascade.transform.noise(torch.randn(size, generator=generator)))
    shown = coefficients if clean_condition else z0
    diffusion = diffusion_terms(cascade, coefficients, shown, generator, nodes=nodes, variance=0.25)
    return Terms(reconstruction(cascade, images, z0), prior(cascade, coefficients), diffusion)


@dataclass(frozen=True)
class KraftSum:
    """An estimate of ``sum_x exp(-bound(x))`` and what is known of its error.

    Attributes:
        value: With the bound of each image averaged over draws.
        bias: How much too large it is expected to be, as exp is convex: half the variance of each mean.
        stderr: Its standard error.
    """

    value: float
    bias: float
    stderr: float

    @property
    def margin(self) -> float:
        """What the estimate may lie above the truth by chance: twice the bias and four standard errors."""
        return 2 * self.bias + 4 * self.stderr

    @property
    def is_probability(self) -> bool:
        return self.value <= 1 + self.margin


def kraft_sum(nats: Tensor) -> KraftSum:
    """From independent draws of the bound of every image of a domain, ``[draws, images]``."""
    share = (-nats.mean(0)).exp()
    variance = nats.var(0) / len(nats)
    bias = float(0.5 * (share * variance).sum())
    return KraftSum(float(share.sum()), bias, float((share.square() * variance).sum().sqrt()))


def enumerate_bounds(
    cascade: Cascade,
    images: Tensor,
    *,
    draws: int,
    nodes: int,
    clean_condition: bool = False,
) -> Tensor:
    """Bound of every image, nats, ``[draws, images]``; every draw has its own noise."""
    generator = torch.Generator().manual_seed(1)
    repeated = images.repeat(draws, 1, 1, 1)
    terms = bound_terms(cascade, repeated, generator, nodes=nodes, clean_condition=clean_condition)
    return terms.total.view(draws, len(images))
