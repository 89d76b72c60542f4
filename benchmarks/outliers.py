"""Images like those trained on, each made odd in one way; stated in docs/protocol.md before any figure."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from pcdm_core.data.corruptions import CORRUPTIONS

__all__ = ["OUTLIERS", "Images", "outliers"]

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]
Change = Callable[[Image.Image], Image.Image]

RANDOM = np.random.default_rng(0)
SMOOTH, PLAIN, MEAN = Image.Resampling.BICUBIC, Image.Resampling.NEAREST, Image.Resampling.BOX


def each(change: Change) -> Callable[[Images], Images]:
    def apply(images: Images) -> Images:
        changed = [change(Image.fromarray(image.transpose(1, 2, 0))).convert("RGB") for image in images]
        return np.stack([np.asarray(image).transpose(2, 0, 1) for image in changed])

    return apply


def pixelwise(change: Callable[[Floats], NDArray[Any]]) -> Callable[[Images], Images]:
    return lambda images: np.ascontiguousarray(np.clip(np.rint(change(images.astype(np.float64))), 0, 255), np.uint8)


def crop(size: int) -> Change:
    low, high = (32 - size) // 2, (32 + size) // 2
    return lambda image: image.crop((low, low, high, high)).resize((32, 32), SMOOTH)


def shrunk(size: int, enlarge: Image.Resampling) -> Change:
    return lambda image: image.resize((size, size), MEAN).resize((32, 32), enlarge)


def compressed(quality: int) -> Change:
    def apply(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return apply


def saturated(factor: float) -> Change:
    return lambda image: ImageEnhance.Color(image).enhance(factor)


def shuffled(side: int) -> Callable[[Floats], Floats]:
    """The square patches of each image in random order."""

    def apply(images: Floats) -> Floats:
        count, along = len(images), 32 // side
        patches = images.reshape(count, 3, along, side, along, side).transpose(0, 2, 4, 1, 3, 5)
        patches = patches.reshape(count, along**2, 3, side, side)
        mixed = RANDOM.permuted(np.arange(along**2)[None].repeat(count, 0), axis=1)
        patches = np.take_along_axis(patches, mixed[:, :, None, None, None], axis=1)
        patches = patches.reshape(count, along, along, 3, side, side)
        return patches.transpose(0, 3, 1, 4, 2, 5).reshape(images.shape)

    return apply


def salt_and_pepper(images: Floats) -> Floats:
    shape = (len(images), 1, 32, 32)
    hit = RANDOM.random(shape) < 0.01
    return np.where(hit, RANDOM.integers(0, 2, shape) * 255.0, images)


def halves_of_two(images: Floats) -> Floats:
    return np.concatenate((images[..., :16], np.roll(images, 1, axis=0)[..., 16:]), axis=-1)


def random_phases(images: Floats) -> Floats:
    """The amplitudes of each image's spectrum, with the phases of white noise, alike for all colours."""
    phases = np.angle(np.fft.fft2(RANDOM.normal(size=(len(images), 1, 32, 32))))
    phases[:, :, 0, 0] = 0
    return np.fft.ifft2(np.fft.fft2(images) * np.exp(1j * phases)).real


def tiled(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.tile(np.asarray(image.resize((16, 16), SMOOTH)), (2, 2, 1)))


OUTLIERS: dict[str, Callable[[Images], Images]] = {
    "blurred": each(lambda image: CORRUPTIONS["blurred"](image, RANDOM)),
    "half, enlarged": each(crop(16)),
    "three quarters, enlarged": each(crop(24)),
    "JPEG, quality 60": each(compressed(60)),
    "grey": each(lambda image: image.convert("L")),
    "colour shifted": pixelwise(lambda x: x + RANDOM.integers(-40, 41, (len(x), 3, 1, 1))),
    "colours swapped": pixelwise(lambda x: x[:, [2, 0, 1]]),
    "inverted": pixelwise(lambda x: 255 - x),
    "half the contrast": pixelwise(lambda x: (x + x.mean((2, 3), keepdims=True)) / 2),
    "mean of two": pixelwise(lambda x: (x + np.roll(x, 1, axis=0)) / 2),
    "patches shuffled": pixelwise(shuffled(8)),
    "upside down": pixelwise(lambda x: x[:, :, ::-1]),
    "turned by 90 degrees": pixelwise(lambda x: np.rot90(x, 1, (2, 3))),
    "noise, 5 levels": pixelwise(lambda x: x + RANDOM.normal(0, 5, x.shape)),
    "28 pixels, enlarged": each(crop(28)),
    "20 pixels, enlarged": each(crop(20)),
    "pixelated to 16": each(shrunk(16, PLAIN)),
    "shrunk to 24, enlarged": each(shrunk(24, SMOOTH)),
    "4 bits a value": pixelwise(lambda x: np.floor(x / 16) * 16 + 8),
    "saturation doubled": each(saturated(2)),
    "saturation halved": each(saturated(0.5)),
    "salt and pepper, 1 %": pixelwise(salt_and_pepper),
    "quarters shuffled": pixelwise(shuffled(16)),
    "small patches shuffled": pixelwise(shuffled(4)),
    "darkened": pixelwise(lambda x: 255 * (x / 255) ** 2),
    "sharpened": each(lambda image: image.filter(ImageFilter.SHARPEN)),
    "noise, 2 levels": pixelwise(lambda x: x + RANDOM.normal(0, 2, x.shape)),
    "JPEG, quality 90": each(compressed(90)),
    "halved and tiled": each(tiled),
    "halves of two": pixelwise(halves_of_two),
    "stretched": each(lambda image: image.crop((8, 0, 24, 32)).resize((32, 32), SMOOTH)),
    "random phases": pixelwise(random_phases),
}


def outliers(images: Images, of_each: int) -> dict[str, Images]:
    """So many of each kind, made of some of the images; they are the same at the first call of every program."""
    return {
        kind: change(images[np.sort(RANDOM.permutation(len(images))[:of_each])]) for kind, change in OUTLIERS.items()
    }
