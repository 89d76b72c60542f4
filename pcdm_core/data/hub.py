"""Data sets that the `datasets` library knows: by name, built from a local folder, or saved to disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pcdm_core.data.base import ImageSource, Item, label_of
from pcdm_core.data.decode import decode_image
from pcdm_core.data.extras import load_extra
from pcdm_core.data.files import read_image
from pcdm_core.data.tables import IMAGE_COLUMNS, LABEL_COLUMNS, first_of

__all__ = ["HUB_NAMES", "HubName", "HubSource", "is_saved", "load_named", "load_saved"]

_WHAT: Final = "Reading Hugging Face data sets"


@dataclass(frozen=True)
class HubName:
    """Where a data set lives on the hub, and which of its configurations is meant."""

    path: str
    config: str | None = None


HUB_NAMES: Final[dict[str, HubName]] = {
    "cifar10": HubName("uoft-cs/cifar10"),
    "cifar100": HubName("uoft-cs/cifar100"),
    "svhn": HubName("ufldl-stanford/svhn", "cropped_digits"),
}


class HubSource(ImageSource):
    """Rows of a map-style data set; `Item.source` is `title#row`.

    The image column (`image` or `img`) holds images of the `datasets` library, or encoded bytes; the library's own
    decoding is switched off, so that every image passes the same checks whatever it is read from.

    Raises:
        ValueError: There is no usable image column.
    """

    def __init__(self, dataset: Any, title: str) -> None:
        features = dataset.features
        column = first_of(list(features), IMAGE_COLUMNS)
        if column is None:
            wanted = " or ".join(f'"{name}"' for name in IMAGE_COLUMNS)
            raise ValueError(f"{title}: needs an image column {wanted}; it has {', '.join(features)}")
        library = load_extra("datasets", _WHAT)
        if isinstance(features[column], library.Image):
            dataset = dataset.cast_column(column, library.Image(decode=False))
        elif getattr(features[column], "dtype", None) not in ("binary", "large_binary"):
            raise ValueError(f'{title}: column "{column}" must hold images or encoded bytes; it is {features[column]}')
        label = first_of(list(features), LABEL_COLUMNS)
        self._dataset = dataset.select_columns([name for name in (column, label) if name is not None])
        self._title, self._image, self._label = title, column, label

    def __len__(self) -> int:
        return len(self._dataset)

    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Walk the rows `start <= i < stop`."""
        for index in range(start, stop):
            row = self._dataset[index]
            name = f"{self._title}#{index}"
            cell = row[self._image]
            if isinstance(cell, dict) and cell.get("bytes") is None and cell.get("path"):
                image = read_image(Path(cell["path"]), name=name)
            else:
                image = decode_image((cell["bytes"] if isinstance(cell, dict) else cell) or b"", name=name)
            yield Item(name, image, label_of(row.get(self._label)))


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def load_saved(folder: Path, split: str | None) -> HubSource:
    """Open a folder written by `save_to_disk`.

    Args:
        folder: The folder, of one data set or of a dictionary of splits.
        split: Which split; needed unless there is only one, or one called "test".

    Raises:
        ValueError: The folder is damaged, or has no such split.
    """
    library = load_extra("datasets", _WHAT)
    try:
        dataset = library.load_from_disk(str(folder))
    except Exception as error:  # the library raises whatever its storage raises
        raise ValueError(f"{folder}: not a readable saved data set ({_first_line(error)})") from error
    if isinstance(dataset, library.DatasetDict):
        splits = {str(name): part for name, part in dataset.items()}
    else:
        splits = {str(dataset.split or "test"): dataset}
    chosen = split or (next(iter(splits)) if len(splits) == 1 else "test")
    if chosen not in splits:
        raise ValueError(f'{folder}: has no split "{chosen}"; it has {", ".join(splits)} (write {folder}:SPLIT)')
    return HubSource(splits[chosen], f"{folder}:{chosen}")


def load_named(name: str, split: str) -> HubSource:
    """Load a split by `datasets.load_dataset`, downloading it if it is not in the library's cache.

    Args:
        name: A key of `HUB_NAMES`, the hub's `user/name`, or a local folder.
        split: Which split.

    Raises:
        ValueError: There is no such data set or split, or the hub cannot be reached.
    """
    library = load_extra("datasets", _WHAT)
    known = HUB_NAMES.get(name, HubName(name))
    try:
        dataset = library.load_dataset(known.path, known.config, split=split)
    except Exception as error:  # the library raises whatever the hub, its cache or its storage raises
        raise ValueError(
            f'{name}: cannot load split "{split}" of the data set {known.path} ({_first_line(error)})'
        ) from error
    return HubSource(dataset, f"{name}:{split}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
