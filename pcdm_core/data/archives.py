"""Arrays of pixels in `.npz` files."""

import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from pcdm_core.data.arrays import ArraySource

__all__ = ["open_archive"]

_DEFAULT_SPLIT: Final = "test"
_SUFFIX: Final = "_images"


def open_archive(path: Path, split: str | None) -> ArraySource:
    """Read the images of a `.npz` file into memory.

    The file holds one set: the array `images`, or else the only one, next to `labels`. Or it holds splits, as the
    files of MedMNIST do (Yang et al., "MedMNIST v2", arXiv 2110.14795): `train_images` with `train_labels`,
    `test_images` with `test_labels`, and so on. Only the arrays of the wanted split are read.

    Args:
        path: The file.
        split: Which split; needed unless there is only one, or one called "test".

    Raises:
        ValueError: The file is broken or has no such split, or the arrays are not what `ArraySource` takes.
        OSError: The file cannot be read.
    """
    held = _names(path)
    splits = [name.removesuffix(_SUFFIX) for name in held if name.endswith(_SUFFIX)]
    if split is None and ("images" in held or not splits):
        images, labels, title = _only_set(path, held), "labels", str(path)
    else:
        chosen = split or (splits[0] if len(splits) == 1 else _DEFAULT_SPLIT)
        if chosen not in splits:
            there = f"it has {', '.join(splits)} (write {path}:SPLIT)" if splits else f'leave ":{chosen}" out'
            raise ValueError(f'{path}: has no split "{chosen}", which would be an array {chosen}{_SUFFIX}; {there}')
        images, labels, title = f"{chosen}{_SUFFIX}", f"{chosen}_labels", f"{path}:{chosen}"
    arrays = _read(path, {images, labels})
    return ArraySource(arrays[images], arrays.get(labels), title=title)


def _only_set(path: Path, held: Collection[str]) -> str:
    """The key of the images of a file without splits."""
    if "images" in held:
        return "images"
    others = sorted(set(held) - {"labels"})
    if len(others) != 1:
        raise ValueError(
            f'{path}: needs one array, or one under the key "images"; it holds {", ".join(others) or "none"}'
        )
    return others[0]


def _read(path: Path, wanted: Collection[str]) -> dict[str, NDArray[np.generic]]:
    """Those of the wanted arrays that there are."""
    with _opened(path) as arrays:
        return {name: arrays[name] for name in arrays.files if name in wanted}


def _names(path: Path) -> list[str]:
    with _opened(path) as arrays:
        return list(arrays.files)


@contextmanager
def _opened(path: Path) -> Iterator[NpzFile]:
    """Open the file; whatever reading shows to be wrong with it is a ValueError that names it."""
    try:
        # Pickled objects are refused: they run code.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            yield arrays
    except OSError:  # missing or unreadable: the system's message names the file
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable .npz file of plain arrays ({error})") from error
