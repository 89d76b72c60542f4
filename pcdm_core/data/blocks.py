"""Images of a source a few at a time, so that memory does not grow with their number."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pcdm_core.data.base import ImageSource
from pcdm_core.data.preprocess import PreparedImage, Preprocessing

__all__ = ["image_blocks", "prepared_blocks"]


def prepared_blocks(
    source: ImageSource, preprocessing: Preprocessing, size: int, *, strict: bool = False
) -> Iterator[tuple[list[str], list[PreparedImage]]]:
    """Decode and prepare the images of a source, block by block.

    Args:
        source: What to read, in its order.
        preprocessing: The size and channels of the images.
        size: Images in a block, at least 1; the last may have fewer.
        strict: Refuse images of another size, see `Preprocessing.prepare`.

    Yields:
        `Item.source` of each image, and the images.

    Raises:
        ImageError: An image is refused; the error names it.
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1; got {size}")
    names: list[str] = []
    images: list[PreparedImage] = []
    # Prepared one by one: a block of photographs as they come may be a thousand times larger.
    for item in source:
        names.append(item.source)
        images.append(preprocessing.prepare(item.image, name=item.source, strict=strict))
        if len(names) == size:
            yield names, images
            names, images = [], []
    if names:
        yield names, images


def image_blocks(
    source: ImageSource, preprocessing: Preprocessing, size: int
) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """As `prepared_blocks`, with the pixels alone, uint8, `[size, C, H, W]`."""
    for names, images in prepared_blocks(source, preprocessing, size):
        yield names, np.stack([image.pixels for image in images])
