"""Gaussian images, for which the best denoiser and every density are known in closed form."""

from __future__ import annotations

from math import e, pi

import torch
from oracles import small_config
from torch import Tensor, nn

from pcdm_core.model import Cascade, alpha_sigma
from pcdm_core.transforms import Transform

SHAPE = (1, 4, 4)
DIMENSIONS = 16
CASCADES = [("identity", 1), ("haar", 2), ("haar", 3), ("laplacian", 2), ("laplacian", 3)]
GAMMA_MIN = -4.0


def smooth_covariance() -> Tensor:
    """Neighbours are alike; contrast grows across the image, so that no symmetry makes scales independent."""
    places = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)).double()
    contrast = 0.2 + 0.1 * places[:, 0] + 0.05 * places[:, 1]
    return contrast[:, None] * torch.exp(-torch.cdist(places, places) / 3) * contrast


def matrix(transform: Transform, scale: int) -> Tensor:
    """``h_scale`` as a matrix, ``[coefficients, pixels]``."""
    basis = torch.eye(DIMENSIONS, dtype=torch.float64).view(-1, *SHAPE)
    return transform.forward(basis)[scale - 1].flatten(1).T


def coarse_matrix(transform: Transform, scale: int) -> Tensor:
    """Image to the clean coarse image below ``scale``, as a matrix."""
    basis = torch.eye(DIMENSIONS, dtype=torch.float64).view(-1, *SHAPE)
    return transform.inverse(transform.forward(basis)[: scale - 1]).flatten(1).T


class GaussianDenoiser(nn.Module):
    """``E[eps | z_t, condition]`` for images ``N(0, covariance)``."""

    def __init__(self, cascade: Cascade, scale: int, covariance: Tensor, *, clean_condition: bool = False) -> None:
        super().__init__()
        transform = cascade.transform
        self.rows, self.cov = matrix(transform, scale), covariance
        self.coarse = None if scale == 1 else coarse_matrix(transform, scale)
        alpha, sigma = alpha_sigma(torch.tensor(cascade.config.gamma_min, dtype=torch.float64))
        self.condition_alpha, self.condition_sigma = (1.0, 0.0) if clean_condition else (float(alpha), float(sigma))

    def forward(self, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
        # All of a batch share one noise level here, and so one matrix.
        alpha, sigma = (a.to(z) for a in alpha_sigma(gamma[0].double()))
        seen, seeing = z.flatten(1), alpha * self.rows
        noise = sigma.square() * self.rows @ self.rows.T
        if condition is not None:
            assert self.coarse is not None
            seen = torch.cat((seen, condition.flatten(1)), dim=1)
            seeing = torch.cat((seeing, self.condition_alpha * self.coarse))
            shown_noise = self.condition_sigma**2 * self.coarse @ self.coarse.T
            apart = torch.zeros(len(noise), len(shown_noise)).to(noise)
            noise = torch.cat((torch.cat((noise, apart), 1), torch.cat((apart.T, shown_noise), 1)))
        # The arrays of a tight frame have a singular covariance, hence the pseudo-inverse.
        inverse = torch.linalg.pinv(seeing @ self.cov @ seeing.T + noise, rtol=1e-9, hermitian=True)
        mean = seen @ inverse @ (seeing @ self.cov @ self.rows.T)
        return torch.as_tensor((z.flatten(1) - alpha * mean) / sigma).view_as(z)


def gaussian_cascade(transform: str, scales: int, covariance: Tensor, *, clean_condition: bool = False) -> Cascade:
    """A cascade whose networks are the best denoisers of images ``N(0, covariance)``."""
    cascade = Cascade(small_config(transform, scales, SHAPE, levels=256, gamma_min=GAMMA_MIN))
    cascade.predictors = nn.ModuleList(
        GaussianDenoiser(cascade, scale, covariance, clean_condition=clean_condition) for scale in range(1, scales + 1)
    )
    return cascade


def latent_covariance() -> Tensor:
    """Of ``z_0`` as an image."""
    gamma = torch.tensor(GAMMA_MIN, dtype=torch.float64)
    eye = torch.eye(DIMENSIONS, dtype=torch.float64)
    return torch.sigmoid(-gamma) * smooth_covariance() + torch.sigmoid(gamma) * eye


def entropy(covariance: Tensor) -> float:
    """Differential entropy of ``N(0, covariance)``, nats."""
    return float(0.5 * torch.logdet(2 * pi * e * covariance))
