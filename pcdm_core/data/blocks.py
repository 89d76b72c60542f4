"""Images of a source a few at a time, so that memory does not grow with their number."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pcdm_core.data.base import ImageSource
from pcdm_core.data.preprocess import Preprocessing

__all__ = ["image_blocks"]


def image_blocks(
    source: ImageSource, preprocessing: Preprocessing, size: int
) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """Decode and prepare the images of a source, block by block.

    Args:
        source: What to read, in its order.
        preprocessing: The size and channels of the images.
        size: Images in a block, at least 1; the last may have fewer.

    Yields:
        `Item.source` of each image, and the images, uint8, `[size, C, H, W]`.

    Raises:
        ImageError: An image is refused; the error names it.
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1; got {size}")
    names: list[str] = []
    pixels: list[NDArray[np.uint8]] = []
    # Prepared one by one: a block of photographs as they come may be a thousand times larger.
    for item in source:
        names.append(item.source)
        pixels.append(preprocessing.prepare(item.image, name=item.source).pixels)
        if len(names) == size:
            yield names, np.stack(pixels)
            names, pixels = [], []
    if names:
        yield names, np.stack(pixels)
