"""Few sizes for batches of any size, so that few graphs of a network are enough."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["graph_sizes", "size_ladder"]

_FIRST, _STEP = 8, 8


def size_ladder(largest: int) -> tuple[int, ...]:
    """The sizes for batches of up to ``largest``, ascending: 8, 64, 512 and so on; ``largest`` alone if it is below 8.

    So few, as each costs compiling every network once more.
    """
    assert largest >= 1
    sizes = [min(_FIRST, largest)]
    while sizes[-1] * _STEP <= largest:
        sizes.append(sizes[-1] * _STEP)
    return tuple(sizes)


def graph_sizes(size: int, ladder: Sequence[int]) -> tuple[int, ...]:
    """Sizes of the ladder that run a batch of ``size`` together, one after another, the last one padded.

    The whole is run at once where that pads less than the smallest size of the ladder; else the largest part that is
    filled goes first. So padding is always less than that smallest size, however far apart the others are.

    Args:
        size: At least 1.
        ladder: Ascending.
    """
    assert size >= 1
    sizes: list[int] = []
    left = size
    while left > 0:
        whole = next((rung for rung in ladder if rung >= left), None)
        if whole is None or whole - left >= ladder[0]:
            whole = max(rung for rung in ladder if rung < left)
        sizes.append(whole)
        left -= whole
    return tuple(sizes)
