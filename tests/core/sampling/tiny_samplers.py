"""Cascades small enough to sample from in a test, with weights that are not the zeros that they start from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig

SHAPE = (3, 8, 8)
CASCADES = [("identity", 1), ("haar", 2), ("haar", 3), ("laplacian", 2), ("laplacian", 3), ("downsample", 2)]


def random_pictures(count: int) -> Tensor:
    """uint8 images with a few bright and dark areas, and noise."""
    generator = torch.Generator().manual_seed(2)
    areas = torch.rand((count, 3, 2, 2), generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return (200 * areas + 55 * torch.rand((count, *SHAPE), generator=generator)).to(torch.uint8)


def small_cascade(transform: str, scales: int, **options: Any) -> Cascade:
    """In evaluation mode, scaled to random pictures."""
    torch.manual_seed(3)
    network = NetworkConfig(channels=8, blocks=1, attention=False, fourier=())
    config = CascadeConfig(image_shape=SHAPE, transform=transform, networks=(network,) * scales, **options)
    cascade = Cascade(config)
    cascade.fit_variance(random_pictures(64))
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return cascade.eval().requires_grad_(False)
