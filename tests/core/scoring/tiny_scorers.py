"""Scorers of cascades small enough to test, with weights that are not the zeros that they start from."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig
from pcdm_core.scoring import CascadeScorer

Images = NDArray[np.uint8]


class OneLayer(nn.Module):
    """A network that is compiled in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, z: Tensor, gamma: Tensor, condition: Tensor | None) -> Tensor:
        return self.observed(z, gamma, condition)[0]

    def observed(self, z: Tensor, gamma: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
        middle = self.layer(z)
        return torch.tanh(middle * gamma[:, None, None, None]), middle


def random_pictures(count: int, seed: int = 0, shape: tuple[int, int, int] = (3, 8, 8)) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def small_cascade(transform: str = "haar", scales: int = 2, **options: Any) -> Cascade:
    torch.manual_seed(1)
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    config = CascadeConfig(image_shape=(3, 8, 8), transform=transform, networks=(network,) * scales, **options)
    cascade = Cascade(config)
    cascade.fit_variance(torch.from_numpy(random_pictures(64, seed=9)))
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return cascade


def small_scorer(transform: str = "haar", scales: int = 2, **options: Any) -> CascadeScorer:
    settings: dict[str, Any] = {"model_name": "tiny", "digest": "0" * 64} | options
    return CascadeScorer(small_cascade(transform, scales), **settings)
