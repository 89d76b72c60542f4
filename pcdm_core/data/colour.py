"""Any Pillow image as 8-bit grey or RGB, losing no tone to clipping."""

import numpy as np
from PIL import Image

from pcdm_core.data.errors import ImageError

__all__ = ["to_grey_or_rgb"]


def to_grey_or_rgb(image: Image.Image, *, name: str, bits: int | None = None) -> Image.Image:
    """Convert to mode `"L"` (grey, one bit, deep grey) or `"RGB"` (everything else), on white where transparent.

    Args:
        image: A loaded image of any mode.
        name: What to call the image in a refusal.
        bits: Bits in use of the samples of a deep grey image, whose full scale `2**bits - 1` becomes 255. Without it
            16-bit samples use them all, and 32-bit ones are refused.

    Raises:
        ImageError: `"unsupported-mode"`: nothing says which value is white (32-bit integer, signed, floating-point
            samples), or Pillow cannot convert the mode.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and bits is not None):
        return _from_deep_grey(image, 16 if bits is None else bits)
    if image.mode in ("I", "F"):
        detail = "the samples are 32-bit or signed, so that nothing says which value is white; send 8 or 16 bits"
        raise ImageError(name, "unsupported-mode", detail)
    target = "L" if image.mode in ("1", "L", "LA") else "RGB"
    try:
        if image.has_transparency_data:
            colours = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
        result = image.convert(target)
    except ValueError as error:
        detail = f"images of mode {image.mode} cannot be converted; send grey or RGB"
        raise ImageError(name, "unsupported-mode", detail) from error
    result.info.clear()  # nothing of the file may steer a later conversion
    return result


def _from_deep_grey(image: Image.Image, bits: int) -> Image.Image:
    """Scale `0 .. 2**bits - 1` to 0..255, rounding to nearest."""
    samples = np.asarray(image).astype(np.uint32)
    full = 2**bits - 1
    grey = ((samples * 255 + full // 2) // full).astype(np.uint8)
    transparent = image.info.get("transparency")  # PNG: one grey value that is see-through
    if isinstance(transparent, int):
        grey[samples == transparent] = 255
    return Image.fromarray(grey)
