import numpy as np
import pytest

from pcdm_core.benchmark.duplicates import overlaps

IMAGES = np.random.default_rng(0).integers(0, 256, (400, 1, 4, 4), dtype=np.uint8)
NAMES = [f"file#{number}" for number in range(400)]


def test_sets_apart_share_nothing() -> None:
    found = overlaps({"a": NAMES[:9], "b": NAMES[9:20]}, {"a": IMAGES[:9], "b": IMAGES[9:20]})
    assert found == {"a": {}, "b": {"a": 0}}


def test_an_image_in_two_sets_is_refused() -> None:
    with pytest.raises(ValueError, match="a and b share images, 1 of them: take windows that do not overlap"):
        overlaps({"a": NAMES[:9], "b": NAMES[8:20]}, {"a": IMAGES[:9], "b": IMAGES[8:20]})


def test_a_set_under_two_names_is_refused() -> None:
    with pytest.raises(ValueError, match="9 of 9 images of b are also in a, pixel for pixel"):
        overlaps({"a": NAMES[:9], "b": NAMES[10:19]}, {"a": IMAGES[:9], "b": IMAGES[:9]})


def test_a_single_picture_in_two_data_sets_is_told() -> None:
    other = IMAGES[200:].copy()
    other[7] = IMAGES[3]
    assert overlaps({"a": NAMES[:200], "b": NAMES[200:]}, {"a": IMAGES[:200], "b": other})["b"] == {"a": 1}
