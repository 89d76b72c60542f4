"""Arrays of pixels in `.npz` files."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.data.base import ImageSource, Item

__all__ = ["ArraySource"]


class ArraySource(ImageSource):
    """Images of one array, held in memory as uint8; `Item.source` is `path#index`.

    The array is the one under the key `images`, or else the only one (next to `labels`). Its shape is `[N, H, W]`,
    `[N, H, W, C]` or `[N, C, H, W]`, with C = 1 or 3; where both of the last two fit, channels are last.

    Raises:
        ValueError: The file is broken, or its arrays are not of the kinds above.
        OSError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        arrays = _read(path)
        labels = arrays.pop("labels", None)
        if "images" not in arrays and len(arrays) != 1:
            held = ", ".join(sorted(arrays)) or "none"
            raise ValueError(f'{path}: needs one array, or one under the key "images"; it holds {held}')
        images = arrays["images"] if "images" in arrays else next(iter(arrays.values()))
        self._path = path
        self._images = _channels_last(path, images)
        self._labels = labels
        if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
            raise ValueError(
                f'{path}: "labels" must be whole numbers of shape [{len(images)}]; they are {_describe(labels)}'
            )

    def __len__(self) -> int:
        return len(self._images)

    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Walk the images at positions `start <= i < stop`."""
        for index in range(start, stop):
            label = None if self._labels is None else int(self._labels[index])
            yield Item(f"{self._path}#{index}", Image.fromarray(self._images[index]), label)


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        # Pickled objects are refused: they run code.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError:  # missing or unreadable: the system's message names the file
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable .npz file of plain arrays ({error})") from error


def _channels_last(path: Path, images: NDArray[np.generic]) -> NDArray[np.uint8]:
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
    raise ValueError(f"{path}: the images must be {wanted}; they are {_describe(images)}")


def _describe(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"
