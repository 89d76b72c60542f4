"""Folders, single files, arrays, windows, and what is said when there is nothing to open."""

from pathlib import Path

import numpy as np
import pytest
from hostile_images import encode, photo, texture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcdm_core.data import ImageError, Preprocessing, load_array, open_images


def flat(value: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (value, 0, 0))


def values(spec: str | Path, limit: int | None = None) -> list[int]:
    """The red of the first pixel of every image, by which the tests number them."""
    return [int(np.atleast_3d(np.asarray(item.image))[0, 0, 0]) for item in open_images(spec, limit=limit)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value, name in enumerate(["a/1.png", "a/2.PNG", "b.bmp", "c/d/e.tiff", "c/f.webp"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        flat(value).save(path, lossless=True)  # only WebP asks
    return tmp_path / "photos"


@pytest.fixture
def array(tmp_path: Path) -> Path:
    path = tmp_path / "ten.npz"
    np.savez(path, images=np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8))
    return path


# Files and folders


def test_a_folder_is_walked_in_the_order_of_its_paths(folder: Path) -> None:
    assert values(folder) == [0, 1, 2, 3, 4]
    assert [item.source for item in open_images(folder)][:2] == [str(folder / "a/1.png"), str(folder / "a/2.PNG")]


def test_a_folder_has_no_labels(folder: Path) -> None:
    assert {item.label for item in open_images(folder)} == {None}


def test_other_and_hidden_files_are_left_out(folder: Path) -> None:
    (folder / "notes.txt").write_text("not an image")
    (folder / "a/._1.png").write_bytes(b"resource fork")
    (folder / ".cache").mkdir()
    (folder / ".cache/x.png").write_bytes(b"")
    assert values(folder) == [0, 1, 2, 3, 4]


def test_opening_a_folder_decodes_nothing(folder: Path) -> None:
    (folder / "b.bmp").write_bytes(b"broken")
    source = open_images(folder)
    assert len(source) == 5
    walk = iter(source)
    next(walk)
    next(walk)
    with pytest.raises(ImageError, match=r"b\.bmp"):
        next(walk)


def test_a_broken_image_outside_the_window_does_no_harm(folder: Path) -> None:
    (folder / "b.bmp").write_bytes(b"broken")
    assert values(f"{folder}[3:]") == [3, 4]


def test_a_broken_image_names_itself(folder: Path) -> None:
    path = folder / "a/1.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ImageError) as caught:
        list(open_images(folder))
    assert caught.value.name == str(path)


def test_a_source_can_be_walked_again(folder: Path) -> None:
    source = open_images(folder)
    assert [item.source for item in source] == [item.source for item in source]


def test_one_image_is_a_source_of_one(folder: Path) -> None:
    assert values(folder / "b.bmp") == [2]


def test_an_image_is_known_by_its_content_whatever_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(encode(flat(9)))
    assert values(tmp_path / "upload") == [9]


def test_an_oversized_file_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no space, and could not be read into memory
    with pytest.raises(ImageError) as caught:
        list(open_images(tmp_path / "huge.png"))
    assert caught.value.reason == "too-many-bytes"


def test_an_empty_folder_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no image .*\.png"):
        open_images(tmp_path)


def test_a_folder_of_parquet_files_says_how_to_open_them(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").touch()
    with pytest.raises(ValueError, match=r"/\*\.parquet"):
        open_images(tmp_path)


@pytest.mark.parametrize(
    "name", ["none.png", "none", "none/", "none/at/all", "none.parquet", "none-*.parquet", "x.npz"]
)
def test_what_is_missing_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"none|x\.npz"):
        open_images(f"{tmp_path}/{name}")


@pytest.mark.parametrize("name", ["cifar11", "some/photo.jpg", "/etc/none", "a/b/c", ""])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="cifar10, cifar100, svhn"):
        open_images(name)


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(FileNotFoundError, match=r"link\.png"):
        list(open_images(tmp_path / "link.png"))


def test_a_file_has_no_split(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"b\.bmp: this file has no split"):
        open_images(f"{folder}/b.bmp:train")


# Windows

bounds = st.one_of(st.none(), st.integers(-15, 15))


@given(start=bounds, stop=bounds, limit=st.one_of(st.none(), st.integers(1, 12)))
def test_windows_follow_pythons_slices(
    tmp_path_factory: pytest.TempPathFactory, start: int | None, stop: int | None, limit: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "windows.npz"
    if not path.exists():
        np.savez(path, np.arange(10, dtype=np.uint8)[:, None, None])
    text = f"{path}[{'' if start is None else start}:{'' if stop is None else stop}]"
    expected = list(range(10))[start:stop][:limit]
    if expected:
        assert values(text, limit) == expected
    else:
        with pytest.raises(ValueError, match="selects none of the 10 images"):
            open_images(text, limit=limit)


@given(a=bounds, b=bounds, c=bounds, d=bounds)
def test_windows_of_windows_are_slices_of_slices(
    tmp_path_factory: pytest.TempPathFactory, a: int | None, b: int | None, c: int | None, d: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "nested.npz"
    if not path.exists():
        np.savez(path, np.arange(10, dtype=np.uint8)[:, None, None])
    inner = open_images(path)[a:b][c:d]
    expected = list(range(10))[a:b][c:d]
    assert len(inner) == len(expected)
    assert [int(np.asarray(item.image)[0, 0]) for item in inner] == expected


def test_a_window_keeps_the_sources_of_the_whole(array: Path) -> None:
    assert [item.source for item in open_images(f"{array}[-2:]")] == [f"{array}#8", f"{array}#9"]


@pytest.mark.parametrize("window", ["[3]", "[a:b]", "[]", "[1:2:3]", "[-:2]", "[1.5:]"])
def test_a_bad_window_is_named(array: Path, window: str) -> None:
    with pytest.raises(ValueError, match=r"not a window; write \[START:STOP\]"):
        open_images(f"{array}{window}")


def test_a_step_is_refused(array: Path) -> None:
    with pytest.raises(ValueError, match="without a step"):
        open_images(array)[::2]


def test_a_file_whose_name_looks_like_a_window_is_taken_literally(tmp_path: Path) -> None:
    flat(5).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.png[0:1]")
    assert values(tmp_path / "x.png[0:1]") == [5]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_senseless_limit_is_refused(array: Path, limit: int) -> None:
    with pytest.raises(ValueError, match="limit must be at least 1"):
        open_images(array, limit=limit)


# Arrays


@pytest.mark.parametrize("key", ["images", "anything"])
@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_of_every_layout(tmp_path: Path, key: str, layout: str, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 7, channels), dtype=np.uint8)
    stored = images if layout == "HWC" else images.transpose(0, 3, 1, 2)
    np.savez(tmp_path / "x.npz", **{key: stored, "labels": np.array([4, 5, 6])})  # type: ignore[arg-type]
    items = list(open_images(tmp_path / "x.npz"))
    assert all(
        np.array_equal(np.atleast_3d(np.asarray(item.image)), image) for item, image in zip(items, images, strict=True)
    )
    assert [item.label for item in items] == [4, 5, 6]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((2, 4, 4), np.uint8), "b": np.zeros((2, 4, 4), np.uint8)}, "it holds a, b"),
        ({"labels": np.zeros(3, int)}, "it holds none"),
        ({"images": np.zeros((2, 4, 4))}, r"they are float64 of shape \[2, 4, 4\]"),
        ({"images": np.zeros((4, 4), np.uint8)}, r"must be uint8 of shape \[N, H, W\]"),
        ({"images": np.zeros((2, 4, 4, 2), np.uint8)}, "C = 1 or 3"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "not empty"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3, int)}, r"whole numbers of shape \[2\]"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(2)}, r"whole numbers of shape \[2\]"),
        ({"images": np.array([{}, {}], dtype=object)}, "not a readable"),
    ],
)
def test_arrays_of_the_wrong_kind_are_named(
    tmp_path: Path, arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"x\.npz: .*{message}"):
        open_images(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 not a zip"])
def test_a_broken_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz: not a readable \.npz file"):
        open_images(tmp_path / "x.npz")


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_npz_is_named(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.npz"
    np.savez_compressed(path, texture())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"cut\.npz: not a readable"):
        open_images(path)


def test_a_single_array_file_is_not_an_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", texture())
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"x\.npz: not a readable \.npz"):
        open_images(tmp_path / "x.npz")


# Loading into memory


def test_loading_prepares_every_image_and_tells_progress(folder: Path) -> None:
    seen: list[int] = []
    images = load_array(open_images(folder), Preprocessing(channels=3, height=4, width=4), progress=seen.append)
    assert images.shape == (5, 3, 4, 4)
    assert images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert seen == [1, 2, 3, 4, 5]


def test_loading_names_a_broken_image(folder: Path) -> None:
    (folder / "b.bmp").write_bytes(b"")
    with pytest.raises(ImageError, match=r"b\.bmp: the file is empty"):
        load_array(open_images(folder), Preprocessing(channels=3, height=4, width=4))


def test_loading_mixes_sizes(tmp_path: Path) -> None:
    photo(8, 9).save(tmp_path / "a.png")
    photo(20, 10).save(tmp_path / "b.png")
    assert load_array(open_images(tmp_path), Preprocessing(channels=1, height=6, width=5)).shape == (2, 1, 6, 5)
