"""Parquet files, data sets by name, and the real sets."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_images import encode
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcdm_core.data import ImageError, Preprocessing, load_array, open_images

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
datasets = pytest.importorskip("datasets")


def png(value: int) -> bytes:
    return encode(Image.new("RGB", (4, 4), (value, 0, 0)))


def write(
    path: Path, values: range, *, rows: int = 4, column: str = "image", labels: dict[str, list[object]] | None = None
) -> Path:
    """A table of numbered images in the layout of Hugging Face, with `rows` rows a row group."""
    cells = [{"bytes": png(value), "path": None} for value in values]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {column: pa.array(cells, kind), **{name: pa.array(cell) for name, cell in (labels or {}).items()}}
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def values(spec: str | Path) -> list[int]:
    return [int(np.asarray(item.image)[0, 0, 0]) for item in open_images(spec)]


# Parquet


@given(start=st.integers(0, 23), stop=st.integers(0, 23), rows=st.sampled_from([1, 4, 100]))
def test_any_window_across_files_and_row_groups(
    tmp_path_factory: pytest.TempPathFactory, start: int, stop: int, rows: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"shards-{rows}"
    if not folder.exists():
        folder.mkdir()
        for shard in range(3):
            write(folder / f"s-{shard}.parquet", range(8 * shard, 8 * shard + 7), rows=rows)
    whole = [*range(7), *range(8, 15), *range(16, 23)]
    source = open_images(f"{folder}/s-*.parquet")[start:stop]
    assert len(source) == len(whole[start:stop])
    assert [int(np.asarray(item.image)[0, 0, 0]) for item in source] == whole[start:stop]


def test_more_rows_than_are_read_at_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", range(200), rows=150)
    assert values(f"{path}[60:190]") == list(range(60, 190))


def test_items_name_file_and_row(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", range(6))
    assert [item.source for item in open_images(f"{path}[4:]")] == [f"{path}#4", f"{path}#5"]


@pytest.mark.parametrize("label", ["label", "fine_label"])
def test_labels_are_read(tmp_path: Path, label: str) -> None:
    path = write(tmp_path / "x.parquet", range(3), labels={label: [7, None, 9]})
    assert [item.label for item in open_images(path)] == [7, None, 9]


def test_a_table_without_labels(tmp_path: Path) -> None:
    assert [item.label for item in open_images(write(tmp_path / "x.parquet", range(2)))] == [None, None]


def test_labels_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", range(2), labels={"label": ["cat", "dog"]})
    assert [item.label for item in open_images(path)] == [None, None]


@pytest.mark.parametrize("kind", ["binary", "large_binary"])
@pytest.mark.parametrize("column", ["image", "img"])
def test_plain_bytes_are_read(tmp_path: Path, kind: str, column: str) -> None:
    pq.write_table(pa.table({column: pa.array([png(1), png(2)], getattr(pa, kind)())}), tmp_path / "x.parquet")
    assert values(tmp_path / "x.parquet") == [1, 2]


def test_a_broken_image_names_its_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [png(1), png(2)[:40], png(3)]}), tmp_path / "x.parquet")
    with pytest.raises(ImageError) as caught:
        list(open_images(tmp_path / "x.parquet"))
    assert caught.value.name == f"{tmp_path / 'x.parquet'}#1"


def test_a_missing_image_names_its_row_and_no_file_is_read_instead(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": None, "path": str(tmp_path / "secret.png")}, None], kind)
    pq.write_table(pa.table({"image": cells}), tmp_path / "x.parquet")
    for row in range(2):
        with pytest.raises(ImageError, match=f"x.parquet#{row}: the file is empty"):
            list(open_images(f"{tmp_path}/x.parquet[{row}:]"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture": [b"x"], "label": [1]}, r'needs a column "image" or "img" .* it has picture, label'),
        ({"image": ["text"]}, "must hold encoded images.*it is string"),
        ({"image": [{"path": "x"}]}, "must hold encoded images.*it is struct"),
    ],
)
def test_a_table_without_images_is_named(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=rf"x\.parquet: .*{message}"):
        open_images(tmp_path / "x.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table at all, but long enough"])
def test_a_broken_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet: not a readable parquet file"):
        open_images(tmp_path / "x.parquet")


def test_a_table_broken_in_the_middle_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", range(50), rows=50)
    content = bytearray(path.read_bytes())
    content[4:600] = bytes(596)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet: not a readable parquet file"):
        list(open_images(path))


def test_a_table_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x\.parquet: holds no image"):
        open_images(write(tmp_path / "x.parquet", range(0)))


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet", range(1))
    for module in ("pyarrow", "pyarrow.parquet", "pyarrow.types"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r'needs the package pyarrow.*pip install "pcdm\[data\]"'):
        open_images(path)


# Names


def test_known_names_are_looked_for_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDM_DATA_DIR", str(tmp_path))
    write(tmp_path / "cifar10-test.parquet", range(3))
    write(tmp_path / "cifar10-train-1-of-2.parquet", range(20, 23))
    write(tmp_path / "cifar10-train-0-of-2.parquet", range(10, 13))
    assert values("cifar10") == [0, 1, 2]
    assert values("cifar10:test[-1:]") == [2]
    assert values("cifar10:train") == [10, 11, 12, 20, 21, 22]


@pytest.mark.parametrize(
    ("name", "path", "config"),
    [
        ("cifar10", "uoft-cs/cifar10", None),
        ("cifar100", "uoft-cs/cifar100", None),
        ("svhn", "ufldl-stanford/svhn", "cropped_digits"),
        ("some/thing", "some/thing", None),
    ],
)
def test_other_names_go_to_the_hub(monkeypatch: pytest.MonkeyPatch, name: str, path: str, config: str | None) -> None:
    asked: list[tuple[object, ...]] = []

    def load_dataset(path: str, config: str | None, *, split: str) -> object:
        asked.append((path, config, split))
        return datasets.Dataset.from_dict({"img": [png(3)], "fine_label": [8]})

    monkeypatch.delenv("PCDM_DATA_DIR", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    (item,) = open_images(f"{name}:train")
    assert asked == [(path, config, "train")]
    assert (item.source, item.label) == (f"{name}:train#0", 8)


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> object:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r'some/thing: cannot load split "test" .*no route to host'):
        open_images("some/thing")


def test_without_datasets_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r'needs the package datasets.*pip install "pcdm\[data\]"'):
        open_images("some/thing")


# Local data sets of the library


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the library's image-folder builder understands: split, class, file."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    for value, name in enumerate(["train/cat/0.png", "train/dog/1.png", "test/cat/2.png", "test/dog/3.png"]):
        path = tmp_path / "built" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(png(value))
    return tmp_path / "built"


def test_a_local_builder_gives_images_and_labels(built: Path) -> None:
    items = list(open_images(f"{built}:test"))
    assert [(int(np.asarray(item.image)[0, 0, 0]), item.label) for item in items] == [(2, 0), (3, 1)]
    assert [item.source for item in items] == [f"{built}:test#0", f"{built}:test#1"]


def test_an_unknown_split_of_a_local_builder_is_named(built: Path) -> None:
    with pytest.raises(ValueError, match=r'cannot load split "validation".*train'):
        open_images(f"{built}:validation")


def test_a_broken_image_of_a_local_builder_names_its_row(built: Path) -> None:
    source = open_images(f"{built}:train")
    (built / "train/dog/1.png").write_bytes(b"broken")
    with pytest.raises(ImageError, match="built:train#1: the content is not an image"):
        list(source)


def images_of(*values: int) -> object:
    cells = [Image.open(io.BytesIO(png(value))) for value in values]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": cells, "label": list(values)}, features=features)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    datasets.disable_progress_bars()
    splits = {"train": images_of(1, 2), "test": images_of(3)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_dictionary_of_splits(saved: Path) -> None:
    assert values(saved) == [3]
    assert values(f"{saved}:train[1:]") == [2]


def test_an_unknown_split_of_a_saved_dictionary_is_named(saved: Path) -> None:
    with pytest.raises(ValueError, match='has no split "dev"; it has train, test'):
        open_images(f"{saved}:dev")


def test_a_saved_data_set_of_one_split(saved: Path) -> None:
    assert values(saved / "train") == [1, 2]


def test_a_damaged_saved_data_set_is_named(saved: Path) -> None:
    (saved / "dataset_dict.json").write_text("{")
    with pytest.raises(ValueError, match="saved: not a readable saved data set"):
        open_images(saved)


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"text": ["a"]}, 'needs an image column "image" or "img"; it has text'), ({"image": ["a"]}, "must hold images")],
)
def test_a_saved_data_set_without_images_is_named(tmp_path: Path, columns: dict[str, list[str]], message: str) -> None:
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=message):
        open_images(tmp_path / "saved")


# The real sets


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count"), [("cifar10:train", 50_000), ("cifar10", 10_000), ("svhn", None), ("cifar100", None)]
)
def test_the_real_sets_are_found_and_already_of_the_models_size(data_dir: Path, name: str, count: int | None) -> None:
    source = open_images(name)
    assert count is None or len(source) == count
    assert all(item.source.startswith(str(data_dir)) for item in source[:3])
    preprocessing = Preprocessing(channels=3, height=32, width=32)
    assert not any(preprocessing.prepare(item.image, name=item.source, strict=True).resized for item in source[-50:])


@pytest.mark.data
@pytest.mark.usefixtures("data_dir")
def test_the_real_pixels_have_the_known_mean() -> None:
    images = load_array(open_images("cifar10", limit=1000), Preprocessing(channels=3, height=32, width=32))
    # Published channel means of CIFAR-10: 0.491, 0.482, 0.447.
    assert np.abs(images.mean(axis=(0, 2, 3)) / 255 - (0.491, 0.482, 0.447)).max() < 0.02
