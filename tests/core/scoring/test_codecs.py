from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tiny_scorers import random_pictures

from pcdm_core.scoring.codecs import codec_bits_per_dim


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_noise_takes_its_eight_bits_and_a_flat_image_nearly_none(channels: int) -> None:
    noise = codec_bits_per_dim(random_pictures(1, shape=(channels, 64, 64))[0])
    flat = codec_bits_per_dim(np.full((channels, 64, 64), 90, np.uint8))
    assert (noise > 7.9).all()
    assert (flat < 0.5).all()


def test_sizes_are_of_files_that_give_the_pixels_back() -> None:
    pixels = random_pictures(1, shape=(3, 16, 16))[0]
    files = [BytesIO(), BytesIO()]
    Image.fromarray(pixels.transpose(1, 2, 0)).save(files[0], format="WEBP", lossless=True, method=0)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(files[1], format="PNG")
    for file in files:
        np.testing.assert_array_equal(np.asarray(Image.open(file)).transpose(2, 0, 1), pixels)
    assert codec_bits_per_dim(pixels).tolist() == [8 * len(file.getvalue()) / pixels.size for file in files]
