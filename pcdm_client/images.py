"""From whatever holds an image to the bytes that are sent. Pillow and numpy are used only where they are given."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeGuard, cast

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

    Image: TypeAlias = str | os.PathLike[str] | bytes | bytearray | IO[bytes] | PIL.Image.Image | NDArray[np.uint8]
else:
    Image: TypeAlias = Any

__all__ = ["Image", "Part", "blocks", "encode", "encode_all", "listed", "packs"]

_ACCEPTED = "a path, bytes, a binary file, a Pillow image or a numpy array of uint8"


@dataclass(frozen=True)
class Part:
    """An image as it is sent.

    Attributes:
        name: By which the answer calls it.
        data: An encoded image.
    """

    name: str
    data: bytes


def listed(images: Image | Iterable[Image]) -> list[Image]:
    """All images of an argument that may also be a single one.

    Raises:
        ValueError: There is none.
    """
    if _is_image(images):
        return [images]
    if not isinstance(images, Iterable):
        raise TypeError(f"an image is {_ACCEPTED}, not {_kind(images)}")
    several = list(cast("Iterable[Image]", images))
    if not several:
        raise ValueError("there is no image to score")
    return several


def blocks(images: Iterable[Image], size: int) -> Iterator[list[Image]]:
    """Images in lists of `size`, the last one maybe shorter; not more of them are taken than are asked for.

    Raises:
        TypeError: `images` is a single image.
        ValueError: `size` is not positive.
    """
    if _is_image(images):
        raise TypeError(f"an iterable of images is needed, not a single one ({_kind(images)})")
    if size < 1:
        raise ValueError(f"batch_size must be at least 1 image, not {size}")
    iterator = iter(images)
    return iter(lambda: list(islice(iterator, size)), [])


def packs(parts: Sequence[Part], most_bytes: int) -> Iterator[Sequence[Part]]:
    """Neighbours that have together at most so many bytes; a part that alone has more is alone."""
    start = total = 0
    for place, part in enumerate(parts):
        if place > start and total + len(part.data) > most_bytes:
            yield parts[start:place]
            start, total = place, 0
        total += len(part.data)
    if start < len(parts):
        yield parts[start:]


def encode_all(images: Iterable[Image], *, first: int = 0) -> list[Part]:
    """Encode images, of which the first is the `first`th of the caller's."""
    return [encode(image, index) for index, image in enumerate(images, first)]


def encode(image: Image, index: int = 0) -> Part:
    """Make an image ready to be sent.

    Files and bytes are sent as they are, so that the service sees what a photographer's program wrote. Pixels are
    sent as PNG, which loses nothing.

    Args:
        image: A path, bytes, a binary file (read from where it stands), a Pillow image, or a numpy array of uint8 of
            shape `[H, W]` (grey) or `[H, W, C]` with 1 (grey), 3 (RGB) or 4 (RGBA) channels.
        index: Its place among the caller's images: the name of one that has none.

    Raises:
        TypeError: It is something else.
        ValueError: A shape or a mode that no PNG file has.
        ImportError: A numpy array is given, and Pillow is not installed.
        OSError: A file cannot be read.
    """
    name = f"images[{index}]"
    if isinstance(image, bytes | bytearray):
        return Part(name, bytes(image))
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        return Part(path.name, path.read_bytes())
    if _is_a(image, "PIL.Image", "Image"):
        return Part(name, _png(image, name))
    if _is_a(image, "numpy", "ndarray"):
        return Part(name, _png(_drawn(image, name), name))
    if hasattr(image, "read"):
        data = image.read()
        if not isinstance(data, bytes):
            raise TypeError(f"{name}: the file must be opened as binary, its read() gives {_kind(data)}")
        given = getattr(image, "name", None)
        return Part(Path(given).name if isinstance(given, str) else name, data)
    raise TypeError(f"{name}: an image is {_ACCEPTED}, not {_kind(image)}")


def _is_image(value: Any) -> TypeGuard[Image]:
    if isinstance(value, bytes | bytearray | str | os.PathLike) or hasattr(value, "read"):
        return True
    return _is_a(value, "PIL.Image", "Image") or (_is_a(value, "numpy", "ndarray") and value.ndim in (2, 3))


def _is_a(value: Any, module: str, name: str) -> bool:
    # Who holds such an object has imported its module: nothing has to be imported to know it.
    known = getattr(sys.modules.get(module), name, None)
    return known is not None and isinstance(value, known)


def _kind(value: Any) -> str:
    return type(value).__qualname__


def _drawn(array: Any, name: str) -> PIL.Image.Image:
    if array.dtype != "uint8":
        raise ValueError(f"{name}: an array must be of uint8, 0 to 255, not of {array.dtype}")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))) or not array.size:
        raise ValueError(f"{name}: an array must be [H, W] or [H, W, C] with C of 1, 3 or 4, not {array.shape}")
    try:
        from PIL import Image as PillowImage
    except ImportError as error:
        raise ImportError(f"{name}: sending a numpy array needs Pillow: pip install pillow") from error
    return PillowImage.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _png(image: Any, name: str) -> bytes:
    buffer = io.BytesIO()
    try:
        # With its EXIF data, by which the service turns a photograph upright. Little compression: speed counts here.
        image.save(buffer, "PNG", exif=image.getexif(), compress_level=1)
    except OSError as error:
        raise ValueError(f"{name}: {error}; convert it first, to RGB say") from error
    return buffer.getvalue()
