"""`write_atomically`: write a file completely or not at all."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from blemish.errors import StorageFull

# On Windows a virus scanner or an indexer can keep a file open for a moment.
RETRY_SECONDS = (0.02, 0.1, 0.5) if sys.platform == "win32" else ()


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file completely or not at all; see `write_parts_atomically`."""
    write_parts_atomically(path, parts)


def write_parts_atomically(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write a temporary file in the same folder, sync it to disk and rename it.

    A reader of `path` gets either the old content or the new content, never a part of it.

    Args:
        path: its folder is created.
        parts: written one after the other; consumed lazily.

    Raises:
        StorageFull: the file could not be written ("storage-full.read-only" without permission); the old
            content of `path` is intact.
    """
    # The name contains the thread: the service writes from several.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
        _sync_folder(path.parent)
    except PermissionError as error:
        raise StorageFull(
            f"{path} could not be written ({error.strerror}); close the program that uses it, check its "
            "permissions, or choose another folder",
            reason="read-only",
        ) from error
    except OSError as error:
        raise StorageFull(
            f"{path} could not be written ({error.strerror}); free disk space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # it does not exist after the rename
            temporary.unlink()


def _replace(source: Path, target: Path) -> None:
    for seconds in RETRY_SECONDS:
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(seconds)
        else:
            return
    source.replace(target)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure; Windows and some drives cannot sync a folder and need not."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
