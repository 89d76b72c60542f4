from __future__ import annotations

import dataclasses
from io import BytesIO

import numpy as np
import pytest
from measured_sets import MeasuredSets
from PIL import Image

from pcdm_core.report.gallery import extremes, png


def test_extremes_go_from_the_outermost_inwards() -> None:
    far = MeasuredSets().far
    most, least = extremes(far, 5)
    assert far.scores[most].tolist() == sorted(far.scores)[:5]
    assert far.scores[least].tolist() == sorted(far.scores, reverse=True)[:5]


@pytest.mark.parametrize(("images", "few"), [(1, 1), (2, 1), (5, 3), (100, 4)])
def test_a_small_set_shows_half_of_its_images(images: int, few: int) -> None:
    most, least = extremes(MeasuredSets().first_of_far(images), 4)
    assert (len(most), len(least)) == (few, few)


def test_of_equals_the_first_comes_first() -> None:
    equal = dataclasses.replace(MeasuredSets().far, scores=np.zeros(300))
    assert extremes(equal, 3) == ([0, 1, 2], [0, 1, 2])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_has_the_pixels(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 4, 5), dtype=np.uint8)
    read = np.asarray(Image.open(BytesIO(png(pixels))))
    assert np.array_equal(read if channels == 1 else read.transpose(2, 0, 1), pixels[0] if channels == 1 else pixels)
