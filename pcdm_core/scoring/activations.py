"""What a U-Net has in its middle while it predicts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pcdm_core.model import NoisePredictor

__all__ = ["middle_outputs", "observed_nodes", "spatial_statistics"]


@contextmanager
def middle_outputs(predictor: nn.Module) -> Iterator[list[Tensor]]:
    """While this lasts, every call of the predictor adds the output of its U-Net's middle, ``[B, C, H, W]``.

    Raises:
        ValueError: If it has no U-Net.
    """
    if not isinstance(predictor, NoisePredictor):
        raise ValueError(f"activations: a {type(predictor).__name__} has no U-Net")
    outputs: list[Tensor] = []
    handle = predictor.unet.middle2.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def spatial_statistics(output: Tensor) -> Tensor:
    """Mean of each channel of ``[B, C, H, W]`` over all places, then the standard deviations, float64, ``[B, 2 C]``."""
    places = output.double().flatten(2)
    return torch.cat((places.mean(2), places.std(2, correction=0)), dim=1)


def observed_nodes(nodes: int) -> tuple[int, ...]:
    """At which of the noise nodes activations are kept: those in the middle of each third, all if there are few."""
    return tuple(sorted({nodes * part // 6 for part in (1, 3, 5)}))
