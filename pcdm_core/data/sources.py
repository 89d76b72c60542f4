"""One call that opens whatever holds images."""

import glob
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pcdm_core.data.archives import open_archive
from pcdm_core.data.base import ImageSource, Item
from pcdm_core.data.corruptions import CORRUPTIONS, CorruptedSource
from pcdm_core.data.digits import open_digits
from pcdm_core.data.files import IMAGE_SUFFIXES, FileSource, find_images
from pcdm_core.data.hub import HUB_NAMES, is_saved, load_named, load_saved
from pcdm_core.data.preprocess import Preprocessing
from pcdm_core.data.spectrograms import SpectrogramSource
from pcdm_core.data.tables import ParquetSource

__all__ = ["DATA_DIR_VARIABLE", "ImageSource", "Item", "load_array", "open_images"]

DATA_DIR_VARIABLE: Final = "PCDM_DATA_DIR"
_DEFAULT_SPLIT: Final = "test"
_WINDOW: Final = re.compile(r"(?P<rest>.*)\[(?P<window>[^\[\]]*)\]", re.DOTALL)
_BOUNDS: Final = re.compile(r"(-?\d*):(-?\d*)")
_SPLIT: Final = re.compile(r"(?P<rest>.+):(?P<split>\w[\w.-]*)", re.DOTALL)
_CORRUPTED: Final = re.compile(r"(?P<name>[a-z-]+)\((?P<of>.+)\)", re.DOTALL)
_HUB_NAME: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def open_images(spec: str | Path, *, limit: int | None = None) -> ImageSource:
    """Open a source of images; none is decoded yet.

    The specification is `WHAT[:SPLIT][[START:STOP]]`, for example `photos/` or `cifar10:train[-5000:]`:

    * an image file, or a folder (every image below it, sorted by path);
    * a `.parquet` file, or a glob of them, sorted by path (columns `image` or `img`, and `label`);
    * a `.npz` file: uint8 array `images`, and `labels`; or those of splits, `train_images` and so on, as the files of
      MedMNIST have them (`pathmnist.npz:val`; the split is `test` unless said otherwise);
    * a folder written by the `datasets` library, or, with a split, any folder that `load_dataset` can build from;
    * the name of a Hugging Face data set: `cifar10`, `cifar100`, `svhn`, or any `user/name`. The first three are
      looked for as parquet files in the folder named by `PCDM_DATA_DIR` (`cifar10-test.parquet`,
      `cifar10-train-*.parquet`) before the hub is asked. The split is `test` unless said otherwise;
    * `digits`, the handwritten digits of scikit-learn: 8x8, grey, 17 levels (see `pcdm_core.data.digits`);
    * `spectrograms:KIND`, synthesised sounds: 32x64, grey (see `pcdm_core.data.spectrograms`);
    * `noise(SPEC)`, `constant(SPEC)`, `blurred(SPEC)`, `jpeg(SPEC)`, `colour-shifted(SPEC)` or `patch-shuffled(SPEC)`:
      the images of any of these, each changed or replaced (see `pcdm_core.data.corruptions`), for example
      `blurred(cifar10:test[:1000])`. They nest.

    The window follows Python's rules, negative bounds included. Something that exists under the whole specification's
    name is taken literally, brackets, colons and all.

    Args:
        spec: What to open.
        limit: Take at most this many images, after the window.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The source is broken, empty or unknown, or the window is; the message names it and says what would
            be right.
        ModuleNotFoundError: A package of the `data` extra is needed.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1; got {limit}")
    text = os.fspath(spec)
    what, window = (text, slice(None)) if os.path.lexists(text) else _split_window(text)
    whole = _open(what)
    if not len(whole):
        raise ValueError(f"{what}: holds no image")
    source = whole[window]
    if not len(source):
        raise ValueError(f"{text}: the window selects none of the {len(whole)} images")
    return source if limit is None else source[:limit]


def load_array(
    source: ImageSource, preprocessing: Preprocessing, *, progress: Callable[[int], None] | None = None
) -> NDArray[np.uint8]:
    """Decode and prepare all images of a source into memory.

    Args:
        source: What to load.
        preprocessing: The size and channels of the result.
        progress: Called after each image with the number of images loaded so far.

    Returns:
        uint8, `[N, C, H, W]`.

    Raises:
        ImageError: An image is refused; the error names it.
    """
    shape = (len(source), preprocessing.channels, preprocessing.height, preprocessing.width)
    images = np.empty(shape, dtype=np.uint8)
    for index, item in enumerate(source):
        images[index] = preprocessing.prepare(item.image, name=item.source).pixels
        if progress is not None:
            progress(index + 1)
    return images


def _split_window(text: str) -> tuple[str, slice]:
    """Take the trailing `[start:stop]` off, if there is one."""
    match = _WINDOW.fullmatch(text)
    if match is None:
        return text, slice(None)
    bounds = _BOUNDS.fullmatch(match["window"])
    if bounds is None or "-" in bounds.groups():
        raise ValueError(f'{text}: "[{match["window"]}]" is not a window; write [START:STOP], for example [-5000:]')
    start, stop = (int(bound) if bound else None for bound in bounds.groups())
    return match["rest"], slice(start, stop)


def _open(what: str) -> ImageSource:
    if os.path.lexists(what):
        return _open_path(Path(what), None)
    corrupted = _CORRUPTED.fullmatch(what)
    if corrupted is not None:
        if corrupted["name"] not in CORRUPTIONS:
            raise FileNotFoundError(
                f"{what}: no such file or folder, and images cannot be made {corrupted['name']}; "
                f"write {', '.join(f'{name}(...)' for name in CORRUPTIONS)}"
            )
        return CorruptedSource(corrupted["name"], open_images(corrupted["of"]))
    match = _SPLIT.fullmatch(what)
    name, split = (match["rest"], match["split"]) if match else (what, None)
    if split is not None and os.path.lexists(name):
        return _open_path(Path(name), split)
    if glob.has_magic(what) and what.endswith(".parquet"):
        paths = sorted(Path(path) for path in glob.glob(what, recursive=True))
        if not paths:
            raise FileNotFoundError(f"{what}: no parquet file matches")
        return ParquetSource(paths)
    if name in _BUILT_IN:
        return _BUILT_IN[name](split)
    if name in HUB_NAMES:
        paths = _local_copies(name, split or _DEFAULT_SPLIT)
        return ParquetSource(paths) if paths else load_named(name, split or _DEFAULT_SPLIT)
    # A known suffix marks a path that is mistyped, not a data set to ask the hub for.
    if _HUB_NAME.fullmatch(name) and not name.lower().endswith((*IMAGE_SUFFIXES, ".parquet", ".npz")):
        return load_named(name, split or _DEFAULT_SPLIT)
    raise FileNotFoundError(
        f"{what}: no such file or folder, nor a data set by name "
        f"({', '.join((*HUB_NAMES, *_BUILT_IN))}, or USER/NAME for the hub)"
    )


def _open_path(path: Path, split: str | None) -> ImageSource:
    if path.is_dir():
        if is_saved(path):
            return load_saved(path, split)
        if split is not None:
            return load_named(str(path), split)
        images = find_images(path)
        if not images:
            hint = f"; for its parquet files write {path}/*.parquet" if any(path.glob("*.parquet")) else ""
            raise ValueError(f"{path}: the folder holds no image ({', '.join(IMAGE_SUFFIXES)}){hint}")
        return FileSource(images)
    if path.suffix.lower() == ".npz":
        return open_archive(path, split)
    if split is not None:
        raise ValueError(f'{path}: this file has no split; leave ":{split}" out')
    if path.suffix.lower() == ".parquet":
        return ParquetSource([path])
    # Any other file is taken for an image: its content decides, and the refusal names it.
    return FileSource([path])


_BUILT_IN: Final[dict[str, Callable[[str | None], ImageSource]]] = {
    "digits": open_digits,
    "spectrograms": SpectrogramSource,
}


def _local_copies(name: str, split: str) -> list[Path]:
    """Find the parquet files of a known data set below `PCDM_DATA_DIR`: one file, or its shards in order."""
    folder = os.environ.get(DATA_DIR_VARIABLE)
    if not folder:
        return []
    single = Path(folder, f"{name}-{split}.parquet")
    return [single] if single.is_file() else sorted(Path(folder).glob(f"{name}-{split}-*.parquet"))
