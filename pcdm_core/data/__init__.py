"""From files to model input: safe decoding, preprocessing, and sources of many images.

Nothing here knows of models: images come in from anywhere and leave as uint8 arrays `[C, H, W]` or `[N, C, H, W]`.
"""

from pcdm_core.data.apart import require_apart
from pcdm_core.data.blocks import image_blocks, prepared_blocks
from pcdm_core.data.decode import DecodeLimits, ImageError, decode_image
from pcdm_core.data.preprocess import PreparedImage, Preprocessing
from pcdm_core.data.sources import DATA_DIR_VARIABLE, ImageSource, Item, load_array, open_images

__all__ = [
    "DATA_DIR_VARIABLE",
    "DecodeLimits",
    "ImageError",
    "ImageSource",
    "Item",
    "PreparedImage",
    "Preprocessing",
    "decode_image",
    "image_blocks",
    "load_array",
    "open_images",
    "prepared_blocks",
    "require_apart",
]
