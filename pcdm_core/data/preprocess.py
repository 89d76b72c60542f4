"""How an image becomes model input, as a value that a calibration can be bound to."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from pcdm_core.data.colour import to_grey_or_rgb
from pcdm_core.data.errors import ImageError

__all__ = ["PreparedImage", "Preprocessing"]


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """Pixels as the model sees them, and what was done to get there.

    Attributes:
        pixels: uint8, `[C, H, W]`, contiguous.
        original_size: `(width, height)` of the image that was given, upright.
        original_mode: Pillow mode of the image that was given.
        resized: Whether the pixels were resampled; if not, they are the image's own.
    """

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]
    original_mode: str
    resized: bool


class Preprocessing(BaseModel):
    """What is done to an image before it is scored. Two equal values give bit-identical pixels for the same image.

    Attributes:
        channels: 1 (grey, by Pillow's ITU-R 601 luma) or 3 (RGB; grey is repeated).
        height: Rows of the model's input.
        width: Columns of the model's input. The whole image is resized to it; nothing is cropped or padded, so an
            image of another aspect ratio is distorted.
        resample: Pillow's bicubic filter, whose support grows with the reduction (no aliasing).
        version: Raised whenever decoding or preparing changes the pixels of any image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: Literal[1, 3]
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    resample: Literal["antialiased-bicubic"] = "antialiased-bicubic"
    version: Literal[1] = 1

    def prepare(self, image: Image.Image, *, name: str, strict: bool = False) -> PreparedImage:
        """Bring one image to the model's size and channels.

        Args:
            image: An upright image, best from `decode_image`; other modes are converted by the same rules.
            name: What to call the image in a refusal.
            strict: Refuse an image that is not already of the model's size and mode.

        Returns:
            The pixels, uint8 `[channels, height, width]`; bit-identical to the image's if size and mode agree.

        Raises:
            ImageError: `"wrong-size"` under `strict`, naming both sizes and modes; `"empty"` for an image without
                pixels; `"unsupported-mode"` for a mode that cannot be converted.
        """
        mode = "L" if self.channels == 1 else "RGB"
        size = (self.width, self.height)
        if strict and (image.size != size or image.mode != mode):
            detail = (
                f"the image is {image.width} x {image.height} {image.mode}, the model takes "
                f"{self.width} x {self.height} {mode}, and strict forbids to convert"
            )
            raise ImageError(name, "wrong-size", detail)
        if 0 in image.size:
            raise ImageError(name, "empty", "the image has no pixels")
        converted = image if image.mode in ("L", "RGB") else to_grey_or_rgb(image, name=name)
        if converted.mode != mode:
            converted = converted.convert(mode)
        resized = converted.size != size
        if resized:
            converted = converted.resize(size, Image.Resampling.BICUBIC)
        rows = np.asarray(converted, dtype=np.uint8).reshape(self.height, self.width, self.channels)
        return PreparedImage(
            # A copy of its own: Pillow's view is read-only.
            pixels=rows.transpose(2, 0, 1).copy(order="C"),
            original_size=image.size,
            original_mode=image.mode,
            resized=resized,
        )
