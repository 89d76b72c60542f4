from __future__ import annotations

import numpy as np
import pytest

from pcdm_core.sampling import image_grid


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (9, 3, 3)])
def test_images_lie_row_by_row_with_gaps(count: int, rows: int, columns: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 4, 6), dtype=np.uint8)
    sheet = image_grid(images, gap=1)
    assert sheet.shape == (rows * 5 + 1, columns * 7 + 1, 3)
    for number, image in enumerate(images):
        top, left = 1 + 5 * (number // columns), 1 + 7 * (number % columns)
        np.testing.assert_array_equal(sheet[top : top + 4, left : left + 6], image.transpose(1, 2, 0))


def test_what_holds_no_image_is_white() -> None:
    sheet = image_grid(np.zeros((3, 1, 2, 2), dtype=np.uint8), gap=1)
    assert (sheet[3:, 4:] == 255).all()
    assert int((sheet == 0).sum()) == 3 * 4


def test_few_levels_are_spread_from_black_to_white() -> None:
    images = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    assert image_grid(images, levels=4, gap=0)[..., 0].tolist() == [[0, 85], [170, 255]]
