"""The noise predictor of one scale: everything around its U-Net."""

from __future__ import annotations

from math import pi, prod
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from pcdm_core.model.config import CascadeConfig
from pcdm_core.model.lattice import lattice_residual
from pcdm_core.model.network import UNet
from pcdm_core.model.schedule import alpha_sigma
from pcdm_core.transforms import Transform

__all__ = ["NoisePredictor", "PredictsNoise"]


class PredictsNoise(Protocol):
    """What a cascade asks of the network of a scale; a U-Net, or an analytic denoiser in a test."""

    def __call__(self, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
        """Predict the noise in ``z``.

        Args:
            z: ``z_t^(s) = alpha z^(s) + sigma eps^(s)``, ``[B, *shape(s)]``.
            gamma: Noise level of each, ``[B]``.
            condition: Coarse image made of the sampled ``z_0^(<s)``, at its own resolution; None at scale 1.

        Returns:
            ``eps_hat_s`` of the shape of ``z``.
        """
        ...


class NoisePredictor(nn.Module):
    r"""``eps_hat_s(z_t; gamma, z_0^(<s))`` as a sum of what is known in closed form and what a U-Net adds.

    * The best linear guess from a coefficient alone: with variance v, ``sigma / (alpha^2 v + sigma^2) z_t``. The
      network is scaled by the standard deviation of what that leaves (the preconditioning of EDM, arXiv 2206.00364,
      for the noise).
    * At the finest scale, what the pixel lattice tells (`lattice_residual`). It lives in pixels, not in coefficients:
      the sampled coarse image and the noisy detail are merged to noisy pixels, denoised there, and split again.
    * The U-Net sees the normalised detail as an image, the coarse image at its own resolution, and base-2 Fourier
      features of the noisy merged image, and answers with an image of which the detail is taken: its output lies in
      the range of ``P_s`` for every transform.
    """

    variance: Tensor

    def __init__(self, config: CascadeConfig, transform: Transform, scale: int) -> None:
        super().__init__()
        network = config.networks[scale - 1]
        channels = config.image_shape[0]
        self.scale = scale
        self.transform = transform
        self.patch = network.patch
        self.gamma_range = (config.gamma_min, config.gamma_max)
        self.levels = config.levels
        self.lattice = config.lattice and scale == transform.scales
        self.register_buffer("variance", torch.ones(transform.shape(scale)[0], 1, 1))
        self.frequencies = [2 * pi * 2.0**n for n in network.fourier]
        inputs = channels * network.patch**2 * (1 + 2 * len(network.fourier)) + (channels if scale > 1 else 0)
        self.unet = UNet(inputs, channels * network.patch**2, network)

    def linear_error(self, gamma: Tensor) -> Tensor:
        """Share of the noise, ``E||eps - guess||^2 / rank``, that the linear guess leaves unexplained at ``gamma``."""
        alpha, sigma = alpha_sigma(gamma[..., None])
        signal = alpha.square() * self.variance.flatten()
        return (signal / (signal + sigma.square())).mean(-1)

    def forward(self, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
        """See `PredictsNoise`."""
        return self.observed(z, gamma, condition)[0]

    def observed(self, z: Tensor, gamma: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The prediction, see `PredictsNoise`, and what the U-Net has in its middle meanwhile, ``[B, C, h, w]``."""
        with torch.autocast(z.device.type, enabled=False):
            alpha, sigma = alpha_sigma(gamma[:, None, None, None])
            total = alpha.square() * self.variance + sigma.square()
            coarse, coarse_sigma = self._coarse(condition, z)
            detail_sigma = sigma / alpha
            pixels = self.transform.merge(self.scale, coarse, z / alpha)
            share = self.transform.coarse_share if coarse is not None else 0.0
            pixel_variance = share * coarse_sigma**2 + (1 - share) * detail_sigma.square()
            inputs = self._inputs(pixels, pixel_variance, z / total.sqrt(), coarse)
            guess = sigma / total * z
            if self.lattice:
                residual = lattice_residual(pixels, pixel_variance.sqrt(), self.levels)
                guess = guess + detail_sigma / pixel_variance * self.transform.split(self.scale, residual)
        low, high = self.gamma_range
        output, middle = self.unet(inputs, (gamma - low) / (high - low))
        image = functional.pixel_shuffle(output, self.patch)
        with torch.autocast(z.device.type, enabled=False):
            correction = self.transform.split(self.scale, image.float())
            return guess + alpha * (self.variance / total).sqrt() * correction, middle

    def _coarse(self, condition: Tensor | None, z: Tensor) -> tuple[Tensor | None, float]:
        """The coarse image with its signal at full amplitude, and the standard deviation of the noise left in it."""
        if condition is None:
            return None, 0.0
        alpha, sigma = alpha_sigma(torch.tensor(self.gamma_range[0], dtype=torch.float64))
        return condition / alpha.to(z), float(sigma / alpha)

    def _inputs(self, pixels: Tensor, pixel_variance: Tensor, normalised: Tensor, coarse: Tensor | None) -> Tensor:
        """Channels of the U-Net: normalised detail, Fourier features of the noisy image, coarse image.

        Noise of variance v damps the mean of a wave of frequency w by ``exp(-w^2 v / 2)``. So much each feature counts:
        one that noise has drowned would only make the prediction rough in ``z``, and the flow with it unsolvable.
        """
        nothing = None if coarse is None else torch.zeros_like(coarse)
        features = [self.transform.merge(self.scale, nothing, normalised)]
        for frequency in self.frequencies:
            left = torch.exp(-0.5 * frequency**2 * pixel_variance)
            features += [left * wave(frequency * pixels) for wave in (torch.sin, torch.cos)]
        if coarse is None:
            return functional.pixel_unshuffle(torch.cat(features, dim=1), self.patch)
        amplitude = self.transform.coarse_gain ** (self.scale - 1 - self.transform.scales)
        fine = functional.pixel_unshuffle(torch.cat(features, dim=1), self.patch)
        if self.patch == 1:
            coarse = functional.interpolate(coarse, scale_factor=2, mode="nearest")
        return torch.cat((fine, amplitude * coarse), dim=1)

    @torch.no_grad()
    def fit_variance(self, z: Tensor) -> None:
        """Set the variance of each channel from coefficients of training images, ``[N, *shape(s)]``."""
        rank_share = self.transform.rank(self.scale) / prod(self.transform.shape(self.scale))
        self.variance.copy_((z.square().mean((0, 2, 3)) / rank_share).clamp_min(1e-6)[:, None, None])
