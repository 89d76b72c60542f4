"""A batch in parts that run beside one another on the cores of a CPU.

Cores that share every single operation wait for each other after each: a core that does something else for a moment
holds up all. Where each has images of its own they wait for each other once a batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import Final, TypeVar

import torch

__all__ = ["run_in_parts"]

LEAST: Final = 4
"""Units of a part. Fewer are computed sooner by all threads together, as so many small steps of Python are not."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="part")


# Threads do not survive a fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def run_in_parts(
    run: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], *, threads: int | None = None
) -> list[Result]:
    """Results of items, in order, computed in as many parts as there are threads, and items enough, for.

    Args:
        run: Results of some of them, in order; called from several threads at once, each with its share of torch's
            threads.
        items: Items whose results do not depend on one another.
        threads: Of torch, for all parts together; as many as the calling thread has by default.

    Raises:
        Exception: What `run` raised, on the first part that failed, after all of them have ended.
    """
    own = torch.get_num_threads()
    threads = own if threads is None else threads
    parts = min(threads, len(items) // LEAST)
    if parts < 2:
        return run(items)

    def run_part(part: Sequence[Item]) -> list[Result]:
        torch.set_num_threads(threads // parts)
        return run(part)

    borders = [len(items) * part // parts for part in range(parts + 1)]
    futures = [_pool(threads).submit(run_part, items[low:high]) for low, high in pairwise(borders)]
    wait(futures)
    # What a part sets for its own thread is also what any thread gets that asks torch for its first time.
    torch.set_num_threads(own)
    return [result for future in futures for result in future.result()]
