"""Images and answers on disk, only where the operator asked, and only for as long."""

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

# Only files of this shape are ever removed: the folder may be somebody's own.
_OURS = re.compile(r"\d{8}T\d{12}-[0-9a-f]{16}\.(?:photograph|json)")
_SWEEP_SECONDS = 300.0


class RetentionStore:
    """A folder of images as they were sent, each with its answer, and a sweep of what is too old.

    Attributes:
        keeps: whether anything is kept at all.
    """

    def __init__(self, folder: Path | None, hours: float | None) -> None:
        self._folder, self._hours = folder, hours
        self.keeps = folder is not None and hours is not None
        self._swept = float("-inf")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.sweep()

    def keep(self, image: bytes, answer: dict[str, Any]) -> None:
        """Keep one; a full disk is logged and does not stop the answer."""
        if self._folder is None:
            return
        # The name is made from the digest, never from what the client calls its file. The links are left
        # out: they would let whoever reads the folder open pictures on the server.
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{answer['sha256'][:16]}"
        kept = {name: value for name, value in answer.items() if name not in ("links", "map")}
        try:
            write_atomically(self._folder / f"{stem}.photograph", image)
            write_atomically(self._folder / f"{stem}.json", json.dumps(kept, ensure_ascii=False).encode())
        except StorageFull:
            log.exception("a photograph could not be kept")
        if time.monotonic() - self._swept > _SWEEP_SECONDS:
            self.sweep()

    def sweep(self) -> None:
        """Remove what is older than was asked."""
        if self._folder is None or self._hours is None:
            return
        self._swept = time.monotonic()
        oldest = time.time() - self._hours * 3600
        try:
            paths = list(self._folder.iterdir())
        except OSError:  # the next sweep may find it again; nobody's answer depends on it
            log.exception("the folder of kept photographs cannot be swept")
            return
        for path in paths:
            try:
                if _OURS.fullmatch(path.name) and path.stat().st_mtime < oldest:
                    path.unlink(missing_ok=True)
            except OSError:
                log.exception("a kept photograph could not be removed")
