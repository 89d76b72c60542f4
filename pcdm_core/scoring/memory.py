"""What torch says when memory runs out, in Python's own word for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["memory_errors"]

# Of the allocator for CPUs and of oneDNN, whose errors are of no class of their own. The latter says so for little
# else, and a fresh process is what helps against that too.
_NO_MEMORY = ("can't allocate memory", "could not create a primitive")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise what is within, but `MemoryError` for the lack of memory on whichever device."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY):
            raise MemoryError(str(error)) from error
        raise
