"""What a source of images is: countable, sliceable, and decoded one image at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

__all__ = ["ImageSource", "Item", "label_of"]


@dataclass(frozen=True, eq=False)
class Item:
    """One image of a source.

    Attributes:
        source: Where it is from, for a reader; unique within its source (a path, `file.parquet#123`).
        image: Decoded, upright, mode `"RGB"` or `"L"`.
        label: Its class, where the source has one.
    """

    source: str
    image: Image.Image
    label: int | None


class ImageSource(ABC):
    """A sequence of images that is read as it is walked; walking it again reads it again.

    A source holds paths and positions, not open files, so it may be walked by several threads at once.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of images, known without decoding any."""

    @abstractmethod
    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Walk the images at positions `start <= i < stop`, with `0 <= start <= stop <= len(self)`.

        Raises:
            ImageError: An image is refused; the error names its `Item.source`.
            ValueError: A file that holds many images turns out to be broken; the error names the file.
            OSError: A file cannot be read.
        """

    def __iter__(self) -> Iterator[Item]:
        return self.between(0, len(self))

    def __getitem__(self, window: slice) -> "ImageSource":
        """Take a window of consecutive images by Python's rules for slices; nothing is read.

        Raises:
            ValueError: The slice has a step other than 1.
        """
        start, stop, step = window.indices(len(self))
        if step != 1:
            raise ValueError(f"a source takes slices without a step, [start:stop]; got a step of {step}")
        return _Window(self, start, max(start, stop))


class _Window(ImageSource):
    """Consecutive images of another source."""

    def __init__(self, whole: ImageSource, start: int, stop: int) -> None:
        self._whole, self._start, self._stop = whole, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def between(self, start: int, stop: int) -> Iterator[Item]:
        return self._whole.between(self._start + start, self._start + stop)


def label_of(value: object) -> int | None:
    """Read a label cell: a whole number, or nothing."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None
