"""Images to model input."""

import numpy as np
import pytest
from hostile_images import encode, photo, texture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from pcdm_core.data import ImageError, Preprocessing, decode_image

COLOUR = Preprocessing(channels=3, height=24, width=36)
GREY = Preprocessing(channels=1, height=24, width=36)


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3]), st.integers(0, 2**32))
def test_the_right_size_passes_bit_for_bit(height: int, width: int, channels: int, seed: int) -> None:
    shape = (height, width, 3) if channels == 3 else (height, width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    preprocessing = Preprocessing(channels=channels, height=height, width=width)
    prepared = preprocessing.prepare(Image.fromarray(pixels), name="x", strict=True)
    assert np.array_equal(prepared.pixels, np.atleast_3d(pixels).transpose(2, 0, 1))
    assert not prepared.resized


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["1", "L", "RGB", "RGBA", "P", "CMYK"]))
def test_any_size_and_mode_becomes_the_models(height: int, width: int, mode: str) -> None:
    for preprocessing in (COLOUR, GREY):
        prepared = preprocessing.prepare(Image.new(mode, (width, height)), name="x")
        assert prepared.pixels.shape == (preprocessing.channels, 24, 36)
        assert prepared.pixels.dtype == np.uint8
        assert prepared.pixels.flags["C_CONTIGUOUS"]
        assert prepared.pixels.flags["WRITEABLE"]
        assert prepared.original_size == (width, height)
        assert prepared.original_mode == mode
        assert prepared.resized == ((width, height) != (36, 24))


@given(st.integers(0, 255), st.integers(1, 80), st.integers(1, 80))
def test_resizing_keeps_a_constant_constant(value: int, height: int, width: int) -> None:
    prepared = GREY.prepare(Image.new("L", (width, height), value), name="x")
    assert (prepared.pixels == value).all()


def test_reduction_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (240, 180))
    prepared = GREY.prepare(Image.fromarray(stripes), name="x")
    assert np.abs(prepared.pixels.astype(int) - 127).max() <= 4


def test_grey_is_repeated_for_a_colour_model() -> None:
    prepared = COLOUR.prepare(Image.fromarray(texture(channels=1)), name="x")
    assert all(np.array_equal(plane, texture(channels=1)) for plane in prepared.pixels)


def test_colour_becomes_luma_for_a_grey_model() -> None:
    prepared = GREY.prepare(Image.new("RGB", (36, 24), (100, 150, 200)), name="x")
    assert np.abs(prepared.pixels.astype(float) - (0.299 * 100 + 0.587 * 150 + 0.114 * 200)).max() <= 1


def test_the_smallest_image_is_only_resized() -> None:
    image = decode_image(encode(Image.new("RGB", (1, 1), (1, 2, 3))), name="dot.png")
    assert np.array_equal(COLOUR.prepare(image, name="dot.png").pixels[:, 5, 7], [1, 2, 3])


def test_strict_refuses_another_size_and_names_both() -> None:
    with pytest.raises(ImageError, match=r"a\.png: .*640 x 480.*36 x 24") as caught:
        COLOUR.prepare(Image.new("RGB", (640, 480)), name="a.png", strict=True)
    assert caught.value.reason == "wrong-size"


def test_strict_refuses_another_mode_and_names_both() -> None:
    with pytest.raises(ImageError, match=r"36 x 24 L.*36 x 24 RGB") as caught:
        COLOUR.prepare(Image.new("L", (36, 24)), name="a.png", strict=True)
    assert caught.value.reason == "wrong-size"


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError) as caught:
        COLOUR.prepare(Image.new("RGB", (0, 3)), name="x")
    assert caught.value.reason == "empty"


def test_premultiplied_alpha_is_understood() -> None:
    prepared = COLOUR.prepare(photo().convert("RGBA").convert("RGBa"), name="x")
    assert np.array_equal(prepared.pixels, texture().transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["F", "I", "La"])
def test_modes_without_a_conversion_are_refused(mode: str) -> None:
    with pytest.raises(ImageError) as caught:
        COLOUR.prepare(Image.new("LA", (3, 3)).convert("La") if mode == "La" else Image.new(mode, (3, 3)), name="x")
    assert caught.value.reason == "unsupported-mode"


def test_identity_survives_json_and_tells_versions_apart() -> None:
    assert Preprocessing.model_validate_json(COLOUR.model_dump_json()) == COLOUR
    assert COLOUR.model_dump() == {
        "channels": 3,
        "height": 24,
        "width": 36,
        "resample": "antialiased-bicubic",
        "version": 1,
    }
    with pytest.raises(ValidationError):
        Preprocessing.model_validate(COLOUR.model_dump() | {"version": 2})


@pytest.mark.parametrize("wrong", [{"channels": 2}, {"height": 0}, {"width": -1}, {"resample": "nearest"}, {"crop": 1}])
def test_unknown_preprocessing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({"channels": 3, "height": 8, "width": 8} | wrong)


def test_preprocessing_is_frozen() -> None:
    with pytest.raises(ValidationError):
        COLOUR.height = 12  # type: ignore[misc]
