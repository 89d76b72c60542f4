"""Cascades small enough to test, with weights that are not the zeros that they start from."""

from typing import Any

import torch
from torch import Tensor

from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig

Shape = tuple[int, int, int]


def tiny_config(
    transform: str = "haar",
    scales: int = 2,
    shape: Shape = (3, 8, 8),
    network: dict[str, Any] | None = None,
    **options: Any,
) -> CascadeConfig:
    size = NetworkConfig(**({"channels": 8, "blocks": 1, "attention": False} | (network or {})))
    return CascadeConfig(image_shape=shape, transform=transform, networks=(size,) * scales, **options)


def tiny_cascade(config: CascadeConfig) -> Cascade:
    """In evaluation mode, scaled to random images, all parameters moved off their initial values."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    cascade = Cascade(config)
    cascade.fit_variance(random_images(config, 64))
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return cascade.eval()


def random_images(config: CascadeConfig, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.levels, (count, *config.image_shape), generator=generator).to(torch.uint8)
