"""Sets made odd on purpose: the images of any source, each changed in one way."""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pcdm_core.data.base import ImageSource, Item

__all__ = ["CORRUPTIONS", "CorruptedSource"]

Pixels = NDArray[np.uint8]
"""``[H, W]`` or ``[H, W, 3]``."""

_BLUR: Final = 0.7  # standard deviation, pixels
_QUALITY: Final = 60
_SHIFT: Final = 40  # of 255
_PATCHES: Final = 4  # along each side


def _blurred(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """Blurred by a Gaussian of 0.7 pixels."""
    return image.filter(ImageFilter.GaussianBlur(_BLUR))


def _jpeg(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """Compressed as JPEG of quality 60."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    with Image.open(buffer) as compressed:
        compressed.load()
        return compressed.copy()


def _noise(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Replaced by noise: every value of every pixel independent, uniform over 0 .. 255."""
    return Image.fromarray(random.integers(0, 256, _pixels(image).shape, dtype=np.uint8))


def _constant(image: Image.Image, _: np.random.Generator) -> Image.Image:
    """Replaced by its mean colour."""
    pixels = _pixels(image)
    return Image.fromarray(np.full_like(pixels, np.rint(pixels.mean(axis=(0, 1)))))


def _colour_shifted(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Each channel brighter or darker by up to 40 of 255, and clipped."""
    pixels = _pixels(image)
    shift = random.integers(-_SHIFT, _SHIFT + 1, pixels.shape[2:])
    return Image.fromarray(np.clip(pixels + shift, 0, 255).astype(np.uint8))


def _patch_shuffled(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Cut in four by four patches, put together in random order; what is left of an uneven side stays where it is."""
    pixels = _pixels(image).copy()
    rows, columns = (min(_PATCHES, side) for side in pixels.shape[:2])
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    places = [
        (slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
        for row in range(rows)
        for column in range(columns)
    ]
    patches = [pixels[place].copy() for place in places]
    for place, number in zip(places, random.permutation(len(places)), strict=True):
        pixels[place] = patches[number]
    return Image.fromarray(pixels)


CORRUPTIONS: Final[Mapping[str, Callable[[Image.Image, np.random.Generator], Image.Image]]] = MappingProxyType(
    {
        "noise": _noise,
        "constant": _constant,
        "blurred": _blurred,
        "jpeg": _jpeg,
        "colour-shifted": _colour_shifted,
        "patch-shuffled": _patch_shuffled,
    }
)
"""What is done to an image of mode `"L"` or `"RGB"`, by the name that a specification uses; size and mode stay."""


class CorruptedSource(ImageSource):
    """The images of another source, each changed; `Item.source` is `name(source of the image)`, labels stay.

    What is random depends on the name and the pixels of the image alone: the same image is changed in the same way
    wherever it stands, and whatever is read before it.

    Args:
        name: A key of `CORRUPTIONS`.
        of: The source.
    """

    def __init__(self, name: str, of: ImageSource) -> None:
        self._name, self._of = name, of

    def __len__(self) -> int:
        return len(self._of)

    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Walk the changed images at positions `start <= i < stop`."""
        for item in self._of.between(start, stop):
            changed = CORRUPTIONS[self._name](item.image, _random(self._name, item.image))
            yield Item(f"{self._name}({item.source})", changed, item.label)


def _random(name: str, image: Image.Image) -> np.random.Generator:
    content = f"{name} {image.mode} {image.size} ".encode() + image.tobytes()
    return np.random.default_rng(list(hashlib.sha256(content).digest()))


def _pixels(image: Image.Image) -> Pixels:
    return np.asarray(image, dtype=np.uint8)
