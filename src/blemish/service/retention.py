"""Storage of images and answers on disk: only if the operator asks for it, and only for a limited time."""

from __future__ import annotations

import json
import logging
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemish.errors import StorageFull
from blemish.model_file import write_atomically

log = logging.getLogger("blemish.service")

# Only files with such names are ever deleted: the directory may contain files of the operator's own.
_STORED_FILE = re.compile(r"\d{8}T\d{12}-[0-9a-f]{16}\.(?:image|json)")
_SWEEP_SECONDS = 300.0
_PRIVATE = ("links", "heatmap")  # keys with links: they would let readers of the directory open images


class RetentionStore:
    """A directory of uploaded images, each with its answer, from which expired files are deleted.

    Attributes:
        enabled: whether anything is stored.
    """

    def __init__(self, directory: Path | None, hours: float | None) -> None:
        self._directory, self._hours = directory, hours
        self.enabled = directory is not None and hours is not None
        self._last_sweep = float("-inf")
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self.delete_expired()

    def save(self, image: bytes, answer: dict[str, Any]) -> None:
        """Store an image with its answer; a full disk is logged and does not fail the request.

        Args:
            image: the bytes as uploaded.
            answer: the body of the answer; its links are not stored.
        """
        if self._directory is None:
            return
        # The name comes from the digest, never from the name that the client gave its file.
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{answer['sha256'][:16]}"
        stored = {name: value for name, value in answer.items() if name not in _PRIVATE}
        try:
            write_atomically(self._directory / f"{stem}.image", image)
            write_atomically(
                self._directory / f"{stem}.json", json.dumps(stored, ensure_ascii=False).encode()
            )
        except StorageFull:
            log.exception("an image could not be stored")
        if time.monotonic() - self._last_sweep > _SWEEP_SECONDS:
            self.delete_expired()

    def delete_expired(self) -> None:
        """Delete the stored files that are older than the retention time."""
        if self._directory is None or self._hours is None:
            return
        self._last_sweep = time.monotonic()
        oldest = time.time() - self._hours * 3600
        try:
            paths = list(self._directory.iterdir())
        except OSError:  # the next sweep may find the directory again; no answer depends on it
            log.exception("the directory of stored images cannot be read")
            return
        for path in paths:
            try:
                if _STORED_FILE.fullmatch(path.name) and path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
            except OSError:
                log.exception("a stored image could not be deleted")
