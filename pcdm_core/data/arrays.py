"""Arrays of pixels in memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.data.base import ImageSource, Item

__all__ = ["ArraySource"]


class ArraySource(ImageSource):
    """Images of one array; `Item.source` is `title#index`.

    Args:
        images: uint8, `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]` with C = 1 or 3; where both of the last two fit,
            channels are last.
        labels: Whole numbers, `[N]` or `[N, 1]`, or None. Those of shape `[N, L]` are left out: an item has one label.
        title: What to call the array, in the names of its images and in errors.

    Raises:
        ValueError: The arrays are not of the kinds above, or hold no image.
    """

    def __init__(self, images: NDArray[np.generic], labels: NDArray[np.generic] | None, *, title: str) -> None:
        self._title = title
        self._images = _channels_last(title, images)
        self._labels = None if labels is None else _one_each(title, labels, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Walk the images at positions `start <= i < stop`."""
        for index in range(start, stop):
            label = None if self._labels is None else int(self._labels[index])
            yield Item(f"{self._title}#{index}", Image.fromarray(self._images[index]), label)


def _channels_last(title: str, images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """View the array as `[N, H, W]` or `[N, H, W, 3]`."""
    if images.dtype == np.uint8 and images.size and images.ndim in (3, 4):
        pixels = images.astype(np.uint8, copy=False)
        if pixels.ndim == 3:
            return pixels
        if pixels.shape[3] in (1, 3):
            return pixels[..., 0] if pixels.shape[3] == 1 else pixels
        if pixels.shape[1] in (1, 3):
            return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)
    wanted = "uint8 of shape [N, H, W], [N, H, W, C] or [N, C, H, W] with C = 1 or 3, and not empty"
    raise ValueError(f"{title}: the images must be {wanted}; they are {_describe(images)}")


def _one_each(title: str, labels: NDArray[np.generic], count: int) -> NDArray[np.integer] | None:
    """View the labels as `[N]`; None where an image has several."""
    if labels.shape[:1] != (count,) or labels.ndim > 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{title}: the labels must be whole numbers of shape [{count}], [{count}, 1] or [{count}, L]; "
            f"they are {_describe(labels)}"
        )
    if labels.ndim == 2 and labels.shape[1] != 1:
        return None
    return labels.reshape(count).astype(np.int64)


def _describe(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"
