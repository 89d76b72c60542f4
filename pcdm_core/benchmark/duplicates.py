"""Whether sets that are told apart share images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pcdm_core.data import require_apart

__all__ = ["overlaps"]

_MOST: Final = 0.01
"""Share of the smaller set. Single pictures that turn up in two data sets are no mistake of the user."""


def overlaps(names: Mapping[str, Sequence[str]], images: Mapping[str, NDArray[np.uint8]]) -> dict[str, dict[str, int]]:
    """Refuse sets that overlap: what is fitted must not be scored, and nothing be in- and out-of-distribution.

    Args:
        names: of the images of each set (`Item.source`).
        images: their pixels, in the same order, ``[N, C, H, W]`` each.

    Returns:
        For each set and each set before it, how many of its images are there too, pixel for pixel.

    Raises:
        ValueError: two sets share an image by name, or more than one in a hundred by content; names both.
    """
    require_apart(names)
    contents: dict[str, set[bytes]] = {}
    found: dict[str, dict[str, int]] = {}
    for name, of in images.items():
        pixels = [image.tobytes() for image in of]
        found[name] = {}
        for other, known in contents.items():
            count = sum(one in known for one in pixels)
            if count > _MOST * min(len(of), len(images[other])):
                raise ValueError(
                    f"{count} of {len(of)} images of {name} are also in {other}, pixel for pixel: take other sets"
                )
            found[name][other] = count
        contents[name] = set(pixels)
    return found
