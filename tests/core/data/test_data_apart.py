"""Sets that must have no image in common."""

import pytest

from pcdm_core.data import require_apart


def test_sets_without_a_common_image_pass() -> None:
    require_apart({"a": ["x#0", "x#1"], "b": ["x#2"], "c": []})


def test_the_two_sets_that_share_images_are_named_with_their_number() -> None:
    with pytest.raises(ValueError, match="b and c share images, 2 of them: take windows that do not overlap"):
        require_apart({"a": ["x#0"], "b": ["x#1", "x#2", "x#3"], "c": ["x#2", "x#3", "x#4"]})
