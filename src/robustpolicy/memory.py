"""Freed memory stays with the process, so that the next step of a training finds it ready."""

from __future__ import annotations

import ctypes
import sys

#: Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed, for this process; whether it agreed.

    glibc gives large blocks back to the system at once. A training step on a CPU frees all that it
    has allocated, so the next one gets it again page by page, each zeroed by the kernel: 190,000
    page faults a step of VGG13. The process holds its peak of memory until it ends, so this is for
    programs, not for a library to do to its caller. Other C libraries are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
