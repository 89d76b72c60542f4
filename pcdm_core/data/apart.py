"""Whether sets that must have no image in common have none."""

from collections.abc import Mapping, Sequence
from itertools import combinations

__all__ = ["require_apart"]


def require_apart(names: Mapping[str, Sequence[str]]) -> None:
    """Refuse sets that share an image by name.

    Args:
        names: of the images of each set (`Item.source`).

    Raises:
        ValueError: two sets do; names both.
    """
    for (one, own), (other, others) in combinations(names.items(), 2):
        shared = len(set(own) & set(others))
        if shared:
            raise ValueError(f"{one} and {other} share images, {shared} of them: take windows that do not overlap")
