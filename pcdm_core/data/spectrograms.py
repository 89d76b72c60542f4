"""Spectrograms of synthesised sounds: images that are no photographs, and not square."""

from collections.abc import Iterator
from typing import Final

from PIL import Image

from pcdm_core.data.base import ImageSource, Item
from pcdm_core.data.synthesis import KINDS, log_spectrogram, sound

__all__ = ["SpectrogramSource"]

_COUNT: Final = 20_000


class SpectrogramSource(ImageSource):
    """Grey images, 32 rows (frequencies) by 64 columns (moments), made anew whenever they are walked.

    `Item.source` is `spectrograms:kind#number`; there are no labels. There are 20,000 of each kind, independent and
    identically distributed, so that any two windows that do not overlap serve as training and held-out images.

    Args:
        kind: A key of `pcdm_core.data.synthesis.KINDS`.

    Raises:
        ValueError: There is no such kind, or none is given.
    """

    def __init__(self, kind: str | None) -> None:
        if kind is None or kind not in KINDS:
            wrong = "which kind is not said" if kind is None else f'there is no kind "{kind}"'
            raise ValueError(f"spectrograms: {wrong}; write spectrograms:KIND with one of {', '.join(KINDS)}")
        self._kind = kind

    def __len__(self) -> int:
        return _COUNT

    def between(self, start: int, stop: int) -> Iterator[Item]:
        """Make the images with the numbers `start <= i < stop`."""
        for number in range(start, stop):
            image = Image.fromarray(log_spectrogram(sound(self._kind, number)))
            yield Item(f"spectrograms:{self._kind}#{number}", image, None)
