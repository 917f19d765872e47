"""Files by the SHA-256 of their content."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from blemish.errors import BadStore, StorageFull
from blemish.model_file import write_atomically

_DIGEST = re.compile(r"[0-9a-f]{64}")
ORPHAN_SECONDS = 3600.0  # a younger file without a row may belong to a write in progress


class FileStore:
    """A folder of files that are named after their content, so that none is ever changed.

    Attributes:
        folder: with one subfolder for each first two digits.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder and its 256 subfolders, durably.

        Raises:
            StorageFull: the folder cannot be created.
        """
        self.folder = folder
        if (folder / "ff").is_dir():
            return
        try:
            for first in range(256):
                (folder / f"{first:02x}").mkdir(parents=True, exist_ok=True)
            for path in (folder, folder.parent):
                _sync(path)
        except OSError as error:
            raise StorageFull(
                f"{folder}: cannot be created ({error.strerror}). Choose another folder."
            ) from error

    def path(self, digest: str) -> Path:
        """Return the path of a file.

        Raises:
            BadStore: `digest` is not a SHA-256 ("bad-store.digest").
        """
        if _DIGEST.fullmatch(digest) is None:
            raise BadStore(f"expected a SHA-256 of 64 hex digits, got {digest[:80]!r}", reason="digest")
        return self.folder / digest[:2] / digest

    def add(self, content: bytes) -> str:
        """Store a file durably and return its SHA-256.

        Raises:
            StorageFull: the disk is full or read-only; nothing is half-written.
        """
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        if path.is_file():
            with suppress(OSError):
                os.utime(path)  # so that it is not removed as an orphan before its row is written
                return digest
        write_atomically(path, content)
        return digest

    def read(self, digest: str) -> bytes:
        """Return the content of a file.

        Raises:
            BadStore: it does not exist ("bad-store.file-missing").
        """
        try:
            return self.path(digest).read_bytes()
        except OSError as error:
            raise BadStore(
                f"{self.path(digest)}: cannot be read ({error.strerror}). Run blemish inspections verify.",
                reason="file-missing",
            ) from error

    def fault(self, digest: str) -> str:
        """Return "" if a file has the content that its name states, else `missing` or `changed`."""
        try:
            with self.path(digest).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return "missing"
        return "" if found == digest else "changed"

    def orphans(self, known: Collection[str], *, min_age_seconds: float = ORPHAN_SECONDS) -> Iterator[Path]:
        """Yield the files without a row, and the temporary files of writes that were killed.

        Args:
            known: the digests that rows name.
            min_age_seconds: younger files are left out.
        """
        newest = time.time() - min_age_seconds
        for folder in sorted(self.folder.iterdir()):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                with suppress(OSError):  # another process may remove it
                    if path.name not in known and path.stat().st_mtime <= newest:
                        yield path


def _sync(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
