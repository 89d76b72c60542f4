from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcdm_core.scoring.heat_map import draw_heat_map, save_png


def maps(scales: int, height: int = 8, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    parts = np.random.default_rng(0).normal(3.0, 1.0, (scales, height, width))
    return parts.sum(0), parts


def picture(channels: int = 3, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (channels, height, width), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scales", [1, 3])
def test_image_bound_and_each_scale_have_a_panel(scales: int, channels: int) -> None:
    figure = draw_heat_map(picture(channels), *maps(scales))
    titles = [panel.get_title().split(":")[0] for panel in figure.axes if panel.images]
    assert titles == ["image", "bound", *(f"scale {scale}" for scale in range(1, scales + 1))]


def test_every_map_has_a_colour_bar_in_bits_per_pixel() -> None:
    figure = draw_heat_map(picture(), *maps(3))
    assert [bar.get_ylabel() for bar in figure.axes if not bar.images].count("bits per pixel") == 4


def test_the_bound_lies_over_the_image() -> None:
    pixels, (bits, scales) = picture(), maps(2)
    whole = draw_heat_map(pixels, bits, scales).axes[1]
    under, over = (layer.get_array() for layer in whole.images)
    np.testing.assert_allclose(np.asarray(under), pixels.mean(0))
    np.testing.assert_allclose(np.asarray(over), bits)
    assert (whole.images[1].get_alpha() or 1.0) < 1.0


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 16), (16, 4)])
def test_the_png_has_the_size_of_the_figure(height: int, width: int, tmp_path: Path) -> None:
    figure = draw_heat_map(picture(3, height, width), *maps(2, height, width))
    save_png(figure, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        image.load()
        assert image.format == "PNG"
        assert image.size == pytest.approx(100 * figure.get_size_inches(), abs=1.0)
    assert [file.name for file in tmp_path.iterdir()] == ["map.png"]


def test_the_same_map_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "other.png"):
        save_png(draw_heat_map(picture(), *maps(2)), tmp_path / name)
    one = (tmp_path / "one.png").read_bytes()
    assert one == (tmp_path / "other.png").read_bytes()
    assert "Software" not in Image.open(BytesIO(one)).info


def test_a_flat_map_can_be_drawn(tmp_path: Path) -> None:
    save_png(draw_heat_map(picture(), np.ones((8, 8)), np.ones((1, 8, 8))), tmp_path / "map.png")
