"""Images that are hard on sums and differences: the largest steps there are, at every scale, and none at all."""

from __future__ import annotations

import torch
from torch import Tensor

SIDE = 32


def hard_images() -> dict[str, Tensor]:
    """uint8 images by name, ``[32, 32]``."""
    rows, columns = torch.arange(SIDE)[:, None], torch.arange(SIDE)[None]
    images = {
        f"checkerboard of {side}x{side}": torch.where((rows // side + columns // side) % 2 == 0, 17, 203)
        for side in (1, 2, 4, 8, 16)
    }
    images |= {
        "saturated checkerboard": torch.where((rows + columns) % 2 == 0, 0, 255),
        "single bright pixel": torch.where((rows == 13) & (columns == 6), 255, 0),
        "black": torch.zeros(SIDE, SIDE),
        "white": torch.full((SIDE, SIDE), 255),
        "grey": torch.full((SIDE, SIDE), 101),
        "alternating rows": torch.where(rows % 2 == 0, 17, 203).expand(SIDE, SIDE),
        "alternating columns": torch.where(columns % 2 == 0, 0, 255).expand(SIDE, SIDE),
    }
    return {name: image.to(torch.uint8) for name, image in images.items()}


def hard_pixels() -> dict[str, Tensor]:
    """The same as pixels in (-1, 1), and some that are no fractions of 256, float64, ``[1, 1, 32, 32]``."""
    pixels = {name: (2 * image.double() + 1) / 256 - 1 for name, image in hard_images().items()}
    uniform = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pixels |= {"noise": 2 * uniform - 1, "dark noise": 0.7 * uniform - 0.9}
    return {name: image.view(1, 1, SIDE, SIDE) for name, image in pixels.items()}
