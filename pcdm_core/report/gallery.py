"""The most and the least typical images of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.report.measured import MeasuredSet

__all__ = ["Gallery", "extremes", "png"]


@dataclass(frozen=True, eq=False)
class Gallery:
    """Images of one set, as the model sees them.

    Attributes:
        of: the set.
        most_typical: positions in the set, the most typical first.
        least_typical: positions in the set, the least typical first.
        pixels: by position, uint8, ``[C, H, W]`` each.
    """

    of: MeasuredSet
    most_typical: Sequence[int]
    least_typical: Sequence[int]
    pixels: dict[int, NDArray[np.uint8]]


def extremes(measured: MeasuredSet, count: int) -> tuple[list[int], list[int]]:
    """Positions of the images of lowest and of highest score, from the outermost inwards; of equals, the first first.

    Args:
        measured: the set, N images.
        count: how many of each, at most; of a small set, half of it, rounded up.
    """
    few = min(count, (len(measured) + 1) // 2)
    return (
        np.argsort(measured.scores, kind="stable")[:few].tolist(),
        np.argsort(-measured.scores, kind="stable")[:few].tolist(),
    )


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture of uint8 pixels ``[C, H, W]`` with one or three channels."""
    content = BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(content, "PNG")
    return content.getvalue()
