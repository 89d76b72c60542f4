from __future__ import annotations

import numpy as np
import pytest

from pcdm_core.detection import FeatureLayout

LAYOUT = FeatureLayout(("bits_per_dim", "prior_scale_1", "diffusion_scale_1", "prior_scale_2", "diffusion_scale_2"))


def test_columns_come_in_the_order_of_the_layout_whatever_is_asked_first() -> None:
    assert LAYOUT.places("diffusion", "bits_per_dim").tolist() == [0, 2, 4]
    features = np.arange(10.0).reshape(2, 5)
    np.testing.assert_array_equal(LAYOUT.select(features, ("diffusion", "bits_per_dim")), [[0, 2, 4], [5, 7, 9]])


def test_one_row_is_selected_from_as_many_are() -> None:
    np.testing.assert_array_equal(LAYOUT.select(np.arange(5.0), ("prior",)), [1, 3])


def test_missing_kinds_are_named() -> None:
    with pytest.raises(ValueError, match="the evaluation has no error, norm"):
        LAYOUT.places("error", "prior", "norm")


def test_features_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected features \[..., 5\], got \[2, 4\]"):
        LAYOUT.select(np.zeros((2, 4)), ("prior",))


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        FeatureLayout(("prior_scale_1", "prior_scale_1"))
