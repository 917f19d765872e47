"""`lock_file`: keep a second process from writing what this one writes."""

from __future__ import annotations

import errno
import os
import sys
from typing import IO

LOCKED_BYTE = 2**40  # far behind the content: Windows keeps others from reading a locked byte


def lock_file(file: IO[bytes]) -> bool:
    """Lock an open file for this process, without waiting, until it is closed or the process ends.

    The operating system releases the lock of a killed process. Child processes do not inherit it.

    Args:
        file: opened for writing. Closing any other handle of the same file in this process releases the lock.

    Returns:
        False if another process has the lock; True also on file systems that have no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            position = file.tell()
            file.seek(LOCKED_BYTE)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            finally:
                file.seek(position)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, LOCKED_BYTE, os.SEEK_SET)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
