"""Many images on one sheet."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["image_grid"]


def image_grid(images: NDArray[Any], *, levels: int = 256, gap: int = 2) -> NDArray[np.uint8]:
    """Images in rows and columns, about as many of each, on white.

    Args:
        images: Integers in [0, levels), ``[N, C, H, W]``.
        levels: Values that a pixel can take; they are spread over 0 to 255.
        gap: White pixels between and around the images.

    Returns:
        ``[rows (H + gap) + gap, columns (W + gap) + gap, C]``.
    """
    count, channels, height, width = images.shape
    columns = ceil(sqrt(count))
    rows = ceil(count / columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, dtype=np.uint8)
    for number, image in enumerate(images):
        top = gap + number // columns * (height + gap)
        left = gap + number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image.astype(np.int64).transpose(1, 2, 0) * 255 // (levels - 1)
    return sheet
