"""The C library's allocator, so that the memory of large images returns to the system.

glibc raises its threshold for memory of its own to 32 MB at the first large image that is freed; later images
come from the heap of each thread, which keeps their memory for ever. After images of 63 megapixels that was
0.8 GB. Other C libraries are left as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE_BYTES = 8 * 2**20  # larger blocks return to the system when they are freed
_MIN_GROWTH_BYTES = 32 * 2**20  # since the heaps were trimmed last


class HeapTrimmer:
    """Returns memory that the allocator keeps without need.

    Source:
        mallopt(3) and malloc_trim(3) of Linux; both exist in glibc only.
    """

    def __init__(self) -> None:
        """Let large blocks of memory return to the system as soon as they are freed."""
        self._library: ctypes.CDLL | None = None
        self._resident = 0
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):
                library = ctypes.CDLL(None)
                _ = library.malloc_trim
                # Either call alone also ends the automatic changes of the threshold.
                library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
                library.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
                self._library = library

    def trim(self) -> bool:
        """Return free memory of every heap to the system if the process has grown; return whether it had."""
        if self._library is None:
            return False
        if resident_bytes() < self._resident + _MIN_GROWTH_BYTES:
            return False
        self._library.malloc_trim(0)
        self._resident = resident_bytes()
        return True


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return 0
    import resource  # not on Windows

    return pages * resource.getpagesize()
