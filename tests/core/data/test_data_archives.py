"""Archives of splits, in the format of MedMNIST."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pcdm_core.data import Preprocessing, load_array, open_images

COUNTS = {"train": 5, "val": 3, "test": 4}


def pictures(split: str, channels: int = 1) -> NDArray[np.uint8]:
    shape = (COUNTS[split], 28, 28) if channels == 1 else (COUNTS[split], 28, 28, channels)
    return np.random.default_rng(list(COUNTS).index(split)).integers(0, 256, shape, dtype=np.uint8)


def arrays(channels: int = 1) -> dict[str, NDArray[np.generic]]:
    """What such a file holds: images, and a column of labels, of every split."""
    images: dict[str, NDArray[np.generic]] = {f"{split}_images": pictures(split, channels) for split in COUNTS}
    labels = {f"{split}_labels": np.arange(count, dtype=np.uint8)[:, None] for split, count in COUNTS.items()}
    return images | labels


def write(path: Path, content: dict[str, NDArray[np.generic]]) -> Path:
    np.savez_compressed(path, **content)  # type: ignore[arg-type]
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write(tmp_path / "some.npz", arrays())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("split", COUNTS)
def test_a_split_has_its_images_and_labels(tmp_path: Path, split: str, channels: int) -> None:
    items = list(open_images(f"{write(tmp_path / 'some.npz', arrays(channels))}:{split}"))
    assert np.array_equal(np.stack([np.asarray(item.image) for item in items]), pictures(split, channels))
    assert [item.label for item in items] == list(range(COUNTS[split]))


def test_a_split_takes_a_window(archive: Path) -> None:
    items = list(open_images(f"{archive}:train[-2:]"))
    assert [item.source for item in items] == [f"{archive}:train#3", f"{archive}:train#4"]


def test_the_split_is_test_unless_said_otherwise(archive: Path) -> None:
    assert len(open_images(archive)) == COUNTS["test"]


def test_the_only_split_needs_no_name(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz", {"train_images": pictures("train"), "train_labels": np.arange(5)})
    assert len(open_images(path)) == COUNTS["train"]


def test_a_missing_split_is_named_with_those_there_are(archive: Path) -> None:
    with pytest.raises(ValueError, match=r'some\.npz: has no split "dev".*it has train, val, test'):
        open_images(f"{archive}:dev")


def test_a_split_of_an_archive_without_splits_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz", {"images": pictures("train")})
    with pytest.raises(ValueError, match=r'has no split "train".*leave ":train" out'):
        open_images(f"{path}:train")


def test_several_labels_an_image_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz", arrays() | {"test_labels": np.ones((4, 14), dtype=np.uint8)})
    assert {item.label for item in open_images(path)} == {None}


def test_labels_of_another_number_than_images_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz", arrays() | {"test_labels": np.ones((3, 1), dtype=np.uint8)})
    with pytest.raises(
        ValueError, match=r"some\.npz:test: the labels must .*\[4, 1\].*they are uint8 of shape \[3, 1\]"
    ):
        open_images(path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 28, 28)), r"they are float64 of shape \[4, 28, 28\]"),
        (np.zeros((4, 28, 28, 28), np.uint8), r"they are uint8 of shape \[4, 28, 28, 28\]"),
    ],
)
def test_images_of_the_wrong_kind_are_named(tmp_path: Path, images: NDArray[np.generic], message: str) -> None:
    path = write(tmp_path / "some.npz", arrays() | {"test_images": images})
    with pytest.raises(ValueError, match=rf"some\.npz:test: the images must be uint8.*{message}"):
        open_images(path)


@pytest.mark.parametrize("key", ["test_images", "test_labels"])
def test_pickled_objects_are_refused(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "some.npz", arrays() | {key: np.array([{}] * 4, dtype=object)})
    with pytest.raises(ValueError, match=r"some\.npz: not a readable .*allow_pickle=False"):
        open_images(path)


def test_other_splits_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "some.npz", arrays() | {"train_images": np.array([{}] * 5, dtype=object)})
    assert len(open_images(f"{path}:val")) == COUNTS["val"]


def test_images_load_at_their_own_size(archive: Path) -> None:
    images = load_array(open_images(f"{archive}:val"), Preprocessing(channels=1, height=28, width=28))
    assert np.array_equal(images[:, 0], pictures("val"))
