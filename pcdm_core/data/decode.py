"""Bytes that a stranger sent, into pixels: every answer is an image or a defined refusal.

Nothing is global here: no Pillow flag is read or set, so any number of threads may decode with limits of their own.

Reasons of refusal (`ImageError.reason`):

| reason | when |
|---|---|
| `empty` | no bytes |
| `too-many-bytes` | the file is larger than `DecodeLimits.max_bytes` |
| `not-an-image` | the content carries no signature of an image format, whatever the file is called |
| `unsupported-format` | an image format, but not one of `DecodeLimits.formats` |
| `too-many-pixels` | the header promises more than `DecodeLimits.max_pixels`; nothing was decompressed |
| `animated` | several frames or pages: one image is scored, not a film |
| `truncated` | the file ends before its pixels do |
| `corrupt` | the content contradicts itself in any other way |
| `unsupported-mode` | 32-bit, signed or floating-point samples: nothing says which value is white |
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pcdm_core.data.colour import to_grey_or_rgb
from pcdm_core.data.errors import ImageError
from pcdm_core.data.headers import gif_header, sniff, webp_size

__all__ = ["DecodeLimits", "ImageError", "decode_image"]

# Plugins are called by name rather than through `Image.open`: that one warns about large images by a process-wide
# threshold, and only after the plugin has run. The plain JPEG class also reads the photograph of a multi-picture file
# (stereo pair, gain map, preview) and leaves the rest alone.
_OPENERS: Final[dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}

_ORIENTATION_TAG: Final = 0x0112
_WHITE_IS_ZERO: Final = 0
_UPRIGHT: Final[dict[int, Image.Transpose]] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class DecodeLimits:
    """What a decoder may be asked to do.

    Attributes:
        max_bytes: Largest encoded file, in bytes.
        max_pixels: Largest width times height, in pixels, judged by the header.
        formats: The allow-list, in Pillow's names; a subset of the default.
    """

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000
    formats: tuple[str, ...] = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")

    def __post_init__(self) -> None:
        unknown = sorted(set(self.formats) - set(_OPENERS))
        if unknown or not self.formats:
            raise ValueError(f"formats must name some of {', '.join(_OPENERS)}; got {', '.join(unknown) or 'none'}")
        if self.max_bytes < 1 or self.max_pixels < 1:
            raise ValueError(f"max_bytes and max_pixels must be positive; got {self.max_bytes} and {self.max_pixels}")


_DEFAULT_LIMITS: Final = DecodeLimits()


def decode_image(data: bytes, *, name: str, limits: DecodeLimits = _DEFAULT_LIMITS) -> Image.Image:
    """Decode one still image, upright, as 8-bit RGB or grey.

    The EXIF orientation is applied. Transparency, in any form (RGBA, LA, a transparent palette entry or colour), is
    composited on **white**. Palettes, CMYK and every other colour space become RGB, by Pillow's plain conversion
    (embedded colour profiles are not applied); grey stays grey. 16-bit samples are scaled to 8 bits, never clipped.

    Args:
        data: The encoded file. Its content decides the format, not its name.
        name: What to call the image in a refusal: a path, an uploaded file's name, a row.
        limits: The largest file and image, and the formats, that are accepted.

    Returns:
        A loaded image of mode `"RGB"` or `"L"`, independent of `data`.

    Raises:
        ImageError: The image is refused, for one of the reasons listed on top of this module.
    """
    if not data:
        raise ImageError(name, "empty", "the file is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageError(name, "too-many-bytes", f"the file is larger than the limit of {limits.max_bytes:,} bytes")
    image_format = sniff(data)
    allowed = ", ".join(limits.formats)
    if image_format is None:
        raise ImageError(name, "not-an-image", f"the content is not an image; send one of {allowed}")
    if image_format not in limits.formats:
        raise ImageError(name, "unsupported-format", f"{image_format} images are not accepted; send one of {allowed}")
    try:
        return _decode(data, image_format, name, limits)
    except (ImageError, MemoryError):  # running out of memory is our failure, not the file's
        raise
    except Exception as error:  # hostile bytes make Pillow's plugins raise a dozen unrelated types
        if "truncated" in str(error).lower():
            raise ImageError(name, "truncated", f"the {image_format} file is truncated") from error
        raise ImageError(name, "corrupt", f"the {image_format} file is damaged and cannot be decoded") from error


def _decode(data: bytes, image_format: str, name: str, limits: DecodeLimits) -> Image.Image:
    if image_format == "GIF":
        header = gif_header(data)
        if header is None:
            raise ImageError(name, "truncated", "the GIF file ends before its first frame")
        size, frames = header
        _check_pixels(size, name, limits)
        _check_frames(frames > 1, name)
    elif image_format == "WEBP":
        canvas = webp_size(data)
        if canvas is None:
            raise ImageError(name, "corrupt", "the WEBP file is damaged: its header is not one of WebP's")
        _check_pixels(canvas, name, limits)

    with _OPENERS[image_format](io.BytesIO(data)) as image:
        _check_pixels(image.size, name, limits)
        # A GIF's frames are counted above; asking Pillow would decode the second.
        _check_frames(image_format != "GIF" and bool(getattr(image, "is_animated", False)), name)
        # Read before loading: the TIFF plugin turns the image itself, and drops the tag.
        orientation = 1 if image_format == "TIFF" else _orientation(image)
        image.load()
        upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image.copy()
        bits = _bits_per_sample(image, name)
    return to_grey_or_rgb(upright, name=name, bits=bits)


def _check_pixels(size: tuple[int, int], name: str, limits: DecodeLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        detail = f"{width} x {height} pixels are more than the limit of {limits.max_pixels:,}"
        raise ImageError(name, "too-many-pixels", detail)


def _check_frames(several: bool, name: str) -> None:
    if several:
        raise ImageError(name, "animated", "the file holds several frames or pages; send one still image")


def _orientation(image: ImageFile.ImageFile) -> int:
    """Read the EXIF orientation, 1 to 8; 1 (upright) if there is none or the metadata is damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a broken comment on a good photograph is no reason to refuse the photograph
        return 1


def _bits_per_sample(image: ImageFile.ImageFile, name: str) -> int | None:
    """Tell how many bits a deep grey sample uses; `None` where the file does not say, or the image is not deep."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        return 16  # deep grey in a PNG is always 16 bits, in whatever mode Pillow presents it
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.mode.startswith("I;16"):
        if image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
            raise ImageError(name, "unsupported-mode", "deep grey with white at zero; send black at zero")
        return int(image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0])  # 12 bits arrive unscaled in 16
    return None
