"""From whatever holds an image to the bytes that are sent."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as PillowImage

from pcdm_client.images import Part, blocks, encode, encode_all, listed, packs


def pixels(part: Part) -> Any:
    return np.asarray(PillowImage.open(io.BytesIO(part.data)))


SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5)) | st.tuples(
    st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3, 4])
)


@given(arrays.arrays(np.uint8, SHAPES))
def test_pixels_of_an_array_arrive_unchanged(array: Any) -> None:
    seen = pixels(encode(array))
    assert np.array_equal(seen, array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_pillow_image_arrives_unchanged(mode: str) -> None:
    ramp = PillowImage.linear_gradient("L").resize((7, 5))
    image = PillowImage.new("I;16", (7, 5), 40_000) if mode == "I;16" else ramp.convert(mode)
    part = encode(image, 3)
    assert part.name == "images[3]"
    assert np.array_equal(pixels(part), np.asarray(image))


def test_a_pillow_image_keeps_the_way_it_is_to_be_turned(tmp_path: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.new("RGB", (4, 2)).save(tmp_path / "turned.jpg", exif=exif)
    with PillowImage.open(tmp_path / "turned.jpg") as turned:
        assert PillowImage.open(io.BytesIO(encode(turned).data)).getexif()[0x0112] == 6


def test_files_and_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "folder of Köln.png"
    path.write_bytes(b"anything")
    assert encode(path) == encode(str(path)) == Part(path.name, b"anything")
    with path.open("rb") as file:
        assert encode(file) == Part(path.name, b"anything")
    assert encode(io.BytesIO(b"anything"), 2) == encode(bytearray(b"anything"), 2) == Part("images[2]", b"anything")


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (7, TypeError, r"images\[5\]: an image is a path, bytes, .* not int"),
        (io.StringIO("text"), TypeError, "opened as binary"),
        (np.zeros((2, 2), np.float32), ValueError, "uint8, 0 to 255, not of float32"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"not \(3, 8, 8\)"),
        (np.zeros((0, 8), np.uint8), ValueError, r"not \(0, 8\)"),
        (PillowImage.new("CMYK", (2, 2)), ValueError, r"images\[5\]: .*CMYK.*convert it"),
        ("nowhere.png", FileNotFoundError, "nowhere.png"),
    ],
    ids=["number", "text", "float", "channels-first", "empty", "inks", "missing"],
)
def test_what_is_no_image_is_refused_by_its_place(image: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        encode(image, 5)


def test_an_array_without_pillow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        encode(np.zeros((2, 2), np.uint8))


ONE = np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    "single",
    ["a.png", Path("a.png"), b"data", io.BytesIO(), ONE, PillowImage.new("L", (1, 1))],
    ids=["text", "path", "bytes", "file", "array", "pillow"],
)
def test_a_single_image_is_a_list_of_one(single: Any) -> None:
    with pytest.raises(TypeError, match="not a single one"):
        blocks(single, 1)
    assert len(listed([single, single])) == 2
    assert listed(single)[0] is single


def test_no_image_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        listed([])
    with pytest.raises(TypeError, match="not int"):
        listed(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        blocks([ONE], 0)


def test_a_stack_of_arrays_is_several_images() -> None:
    assert [part.name for part in encode_all(listed(np.zeros((2, 4, 4, 3), np.uint8)))] == ["images[0]", "images[1]"]


def test_no_more_images_are_taken_than_asked_for() -> None:
    source = iter([b"%d" % number for number in range(5)])
    taken = blocks(source, 2)
    assert next(taken) == [b"0", b"1"]
    assert next(source) == b"2"
    assert list(taken) == [[b"3", b"4"]]


@given(st.lists(st.integers(0, 12)), st.integers(1, 20))
def test_packs_are_as_few_as_their_size_allows(sizes: list[int], most: int) -> None:
    parts = [Part(str(place), bytes(size)) for place, size in enumerate(sizes)]
    found = list(packs(parts, most))
    assert [part for pack in found for part in pack] == parts
    totals = [sum(len(part.data) for part in pack) for pack in found]
    assert all(total <= most or len(pack) == 1 for total, pack in zip(totals, found, strict=True))
    assert all(total + len(after[0].data) > most for total, after in zip(totals, found[1:], strict=False))
