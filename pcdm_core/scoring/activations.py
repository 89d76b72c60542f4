"""What a U-Net has in its middle while it predicts."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["spatial_statistics"]


def spatial_statistics(output: Tensor) -> Tensor:
    """Mean of each channel of ``[B, C, H, W]`` over all places, then the standard deviations, float64, ``[B, 2 C]``."""
    places = output.double().flatten(2)
    return torch.cat((places.mean(2), places.std(2, correction=0)), dim=1)
