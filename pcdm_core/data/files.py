"""Single image files and folders of them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from pcdm_core.data.base import ImageSource, Item
from pcdm_core.data.decode import DecodeLimits, decode_image

__all__ = ["IMAGE_SUFFIXES", "FileSource", "find_images", "read_image"]

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class FileSource(ImageSource):
    """One image a file; `Item.source` is its path, and there are no labels."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Walk the files at positions `start <= i < stop`, reading each as its turn comes."""
        for path in self._paths[start:stop]:
            yield Item(source=str(path), image=read_image(path, name=str(path)), label=None)


def find_images(folder: Path) -> list[Path]:
    """List the files below a folder that have an image's suffix, sorted by path.

    Hidden files and folders are left out (archives bring `._photo.png` files that are no photographs), and links to
    folders are not followed.
    """
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name) for name in files if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def read_image(path: Path, *, name: str, limits: DecodeLimits | None = None) -> Image.Image:
    """Decode one file, reading no more of it than the limit needs to be seen exceeded.

    Raises:
        ImageError: The image is refused.
        OSError: The file cannot be read.
    """
    limits = limits or DecodeLimits()
    with path.open("rb") as file:
        return decode_image(file.read(limits.max_bytes + 1), name=name, limits=limits)
