"""What a network predicts at given noise levels, and what that counts in the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["Latents", "Prediction"]


class Latents(NamedTuple):
    """Where the networks of a batch start.

    Attributes:
        images: Integer images, ``[B, C, H, W]``.
        coefficients: Clean ``z^(s)`` of every scale.
        z0: Sampled ``z_0^(s)`` of every scale.
    """

    images: Tensor
    coefficients: tuple[Tensor, ...]
    z0: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Noise and predicted noise of one scale, each image of the batch at a noise level of its own.

    Attributes:
        noise: ``eps^(s)``, ``[B, *shape(s)]``.
        predicted_noise: ``eps_hat_s``, of the same shape.
        weight: What the squared error of each counts, ``[B]`` float64.
        share: Share of the noise that a linear guess leaves unexplained, in (0, 1], ``[B]`` float64.
        middle: What the U-Net had in its middle, ``[B, C, H, W]``; None where activations are not wanted.
    """

    noise: Tensor
    predicted_noise: Tensor
    weight: Tensor
    share: Tensor
    middle: Tensor | None = None

    def term(self, error: Tensor, noise: Tensor, dimensions: float | Tensor) -> Tensor:
        """``1/2 weight ( ||eps - eps_hat||^2 - share^2 (||eps||^2 - d) )``, of the images or of parts of them.

        The control variate ``||eps||^2 - d`` has mean zero. Its best weight is the squared share of the noise that
        stays unexplained; the share that a linear guess leaves is known without looking at the image.

        Args:
            error: ``||eps - eps_hat||^2``, ``[B, ...]`` float64.
            noise: ``||eps||^2`` of the same parts.
            dimensions: d, the mean of ``noise``.

        Returns:
            Nats, of the shape of ``error``.
        """
        weight, share = (a.view(-1, *(1,) * (error.ndim - 1)) for a in (self.weight, self.share))
        return 0.5 * weight * (error - share.square() * (noise - dimensions))
