"""The digits of scikit-learn as a source."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pcdm_core.data import Preprocessing, load_array, open_images

SIZE = Preprocessing(channels=1, height=8, width=8)


def test_pixels_are_the_counts_of_the_original() -> None:
    assert np.array_equal(load_array(open_images("digits"), SIZE)[:, 0], load_digits().images)


def test_a_digit_has_its_class_as_label() -> None:
    assert [item.label for item in open_images("digits")] == load_digits().target.tolist()


def test_a_window_keeps_the_numbers_of_the_whole() -> None:
    assert [item.source for item in open_images("digits[1000:1002]")] == ["digits#1000", "digits#1001"]


def test_a_split_is_refused() -> None:
    with pytest.raises(ValueError, match='digits: has no split; leave ":train" out'):
        open_images("digits:train")


def test_an_unknown_name_lists_the_built_in_ones() -> None:
    with pytest.raises(FileNotFoundError, match="digits, spectrograms"):
        open_images("digit")
