"""What a U-Net has in its middle while it predicts."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["observed_nodes", "spatial_statistics"]


def spatial_statistics(output: Tensor) -> Tensor:
    """Mean of each channel of ``[B, C, H, W]`` over all places, then the standard deviations, float64, ``[B, 2 C]``."""
    places = output.double().flatten(2)
    return torch.cat((places.mean(2), places.std(2, correction=0)), dim=1)


def observed_nodes(nodes: int) -> tuple[int, ...]:
    """At which of the noise nodes activations are kept: those in the middle of each third, all if there are few."""
    return tuple(sorted({nodes * part // 6 for part in (1, 3, 5)}))
