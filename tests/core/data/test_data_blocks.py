import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcdm_core.data import Preprocessing, image_blocks, load_array, open_images
from pcdm_core.data.arrays import ArraySource

SIZE = Preprocessing(channels=1, height=4, width=5)


def pictures(count: int) -> ArraySource:
    return ArraySource(np.random.default_rng(0).integers(0, 256, (count, 6, 6), dtype=np.uint8), None, title="some")


@given(st.integers(1, 12), st.integers(1, 15))
def test_blocks_one_after_the_other_are_the_whole(count: int, size: int) -> None:
    source = pictures(count)
    blocks = list(image_blocks(source, SIZE, size))
    assert np.array_equal(np.concatenate([images for _, images in blocks]), load_array(source, SIZE))
    assert list(itertools.chain(*(names for names, _ in blocks))) == [item.source for item in source]
    assert {len(names) for names, _ in blocks[:-1]} <= {size}
    assert 1 <= len(blocks[-1][0]) <= size


def test_a_block_is_there_before_the_next_is_read(tmp_path: Path) -> None:
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    blocks = image_blocks(open_images(tmp_path), SIZE, 1)
    assert next(blocks)[1].shape == (1, 1, 4, 5)
    with pytest.raises(ValueError, match=r"b\.png"):
        next(blocks)


def test_blocks_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="size must be at least 1; got 0"):
        next(image_blocks(pictures(1), SIZE, 0))
