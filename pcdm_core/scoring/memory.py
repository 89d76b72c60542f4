"""What torch says when memory runs out, in Python's own word for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["memory_errors"]

# Of the allocator for CPUs, whose errors are of no class of their own.
_NO_MEMORY = "can't allocate memory"


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise what is within, but `MemoryError` for the lack of memory on whichever device."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY in str(error):
            raise MemoryError(str(error)) from error
        raise
