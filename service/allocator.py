"""How a process allocates."""

import ctypes
import os
from typing import Final

__all__ = ["ask_for_huge_pages", "keep_freed_memory"]

# Of <malloc.h>; set as mallopt(3) says.
_TRIM_THRESHOLD: Final = (-1, -1)  # never give the end of the heap back
_MMAP_MAX: Final = (-4, 0)  # no large block has a mapping of its own, which would be given back with it
_TOP_PAD: Final = (-2, 2**26)  # heaps grow by all that one of a thread's own may have, and so never shrink again


def keep_freed_memory() -> None:
    """Have this process keep what it frees for what it allocates next, where the C library is glibc.

    Networks allocate and free the same hundreds of megabytes in each batch. Given back to the system, every page has to
    be cleared, and mapped anew at its first use.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is not None:
        for option in (_TRIM_THRESHOLD, _MMAP_MAX, _TOP_PAD):
            adjust(*option)


def ask_for_huge_pages() -> None:
    """Have the processes that are started from now on ask the kernel for pages of 2 MiB, where glibc (2.35) can.

    Networks go through hundreds of megabytes in each batch, and many kernels give larger pages to those alone who ask
    for them. Tunables that a deployment has set are left as they are.
    """
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
