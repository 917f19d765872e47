"""Storage of images and answers on disk: only if the operator asks for it, and only for a limited time."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemish.errors import StorageFull
from blemish.model_file import write_atomically
from blemish.service.service_metrics import ServiceMetrics

log = logging.getLogger("blemish.service")

# Only files with such names are ever deleted: the directory may contain files of the operator's own.
_NAME = r"(?P<stem>\d{8}T\d{12}-[0-9a-f]{16})\.(?:image|json)"
_STORED_FILE = re.compile(_NAME)
_TEMPORARY_FILE = re.compile(rf"\.{_NAME}\.\d+-\d+\.tmp")
_PROBE_DIGEST = "0" * 16
_SWEEP_SECONDS = 300.0
_LOG_SECONDS = 60.0
# A process that writes a file changes its modification time all the while. One that was killed leaves the
# file behind.
_YOUNG_SECONDS, _LEFT_OVER_SECONDS = 60.0, 600.0
_PRIVATE = ("links", "heatmap")  # keys with links: they would let readers of the directory open images


@dataclass(frozen=True)
class _File:
    path: Path
    stem: str
    temporary: bool
    modified: float
    size_bytes: int


class RetentionStore:
    """A directory of uploaded images, each with its answer, from which expired files are deleted.

    Safe to use from several threads, and by several servers in one directory.

    Attributes:
        enabled: whether anything is stored.
        failing: whether the latest attempt to write into the directory failed.
    """

    def __init__(
        self,
        directory: Path | None,
        hours: float | None,
        *,
        max_bytes: int | None = None,
        metrics: ServiceMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the directory, and delete what has expired in it.

        Args:
            directory: where images and answers are stored; None stores nothing.
            hours: time after which they are deleted; None stores nothing.
            max_bytes: maximum size of all stored files; the oldest are deleted first. None sets no limit.
            metrics: counts what is stored, deleted and not stored.
            clock: the time in seconds, for the pauses between log lines and sweeps.
        """
        self._directory, self._hours, self._max_bytes, self._clock = directory, hours, max_bytes, clock
        self._metrics = metrics or ServiceMetrics()
        self.enabled = directory is not None and hours is not None
        self.failing = False
        self._lock = threading.Lock()
        self._last_sweep = self._last_log = float("-inf")
        self._num_unlogged = self._needed_bytes = self._used_bytes = 0
        self._metrics.stored_bytes.set_function(lambda: self._used_bytes)
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self.delete_expired()

    def save(self, image: bytes, answer: dict[str, Any]) -> None:
        """Store an image with its answer; a full disk is counted and logged, and does not fail the request.

        Args:
            image: the bytes as uploaded.
            answer: the body of the answer; its links are not stored.
        """
        if self._directory is None:
            return
        # The name comes from the digest, never from the name that the client gave its file.
        stem = _new_stem(answer["sha256"][:16])
        stored = {name: value for name, value in answer.items() if name not in _PRIVATE}
        document = json.dumps(stored, ensure_ascii=False).encode()
        size_bytes = len(image) + len(document)
        if self._max_bytes is not None and size_bytes > self._max_bytes:
            # The directory can be written to: the server stays ready.
            self._count_failure(f"it has {size_bytes} bytes and the limit is {self._max_bytes}")
            return
        image_path = self._directory / f"{stem}.image"
        try:
            write_atomically(image_path, image)
            write_atomically(self._directory / f"{stem}.json", document)
        except StorageFull as error:
            with suppress(OSError):  # an image without its answer is of no use, and takes space
                image_path.unlink(missing_ok=True)
            self.failing, self._needed_bytes = True, size_bytes
            self._count_failure(_cause(error))
            return
        self._on_success()
        with self._lock:
            self._used_bytes += size_bytes
            too_large = self._max_bytes is not None and self._used_bytes > self._max_bytes
        if too_large or self._clock() - self._last_sweep > _SWEEP_SECONDS:
            self.delete_expired()

    def test_writing(self) -> None:
        """After a failure, try again to write as many bytes, so that a repaired disk is noticed."""
        if self._directory is None or not self.failing:
            return
        path = self._directory / f"{_new_stem(_PROBE_DIGEST)}.image"
        try:
            write_atomically(path, bytes(self._needed_bytes))
        except StorageFull:
            return
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        self._on_success()

    def delete_expired(self) -> None:
        """Delete expired files, files that killed processes left half-written, and the oldest over the limit.

        A half-written file is deleted after the retention time, but not within a minute of its last change,
        and after 10 minutes at the latest.
        """
        if self._directory is None or self._hours is None:
            return
        self._last_sweep = self._clock()
        retention = self._hours * 3600
        left_over = min(max(retention, _YOUNG_SECONDS), _LEFT_OVER_SECONDS)
        now = time.time()
        try:
            files = list(_stored_files(self._directory))
        except OSError as error:  # the next sweep may find the directory again; no answer depends on it
            log.error("the directory of stored images cannot be read (%s)", error.strerror)
            return
        remaining = []
        for file in files:
            if now - file.modified <= (left_over if file.temporary else retention):
                remaining.append(file)
            else:
                self._delete(file, "left-over" if file.temporary else "expired")
        used = sum(file.size_bytes for file in remaining)
        if self._max_bytes is not None and used > self._max_bytes:
            # By name, which begins with the time: an image and its answer go together.
            stored = sorted((file for file in remaining if not file.temporary), key=lambda file: file.stem)
            for index, file in enumerate(stored):
                is_next = index == 0 or stored[index - 1].stem != file.stem
                if used <= self._max_bytes and is_next:
                    break
                self._delete(file, "size-limit")
                used -= file.size_bytes
        with self._lock:
            self._used_bytes = used

    def _delete(self, file: _File, reason: str) -> None:
        try:
            file.path.unlink()
        except FileNotFoundError:  # another server deleted it
            return
        except OSError as error:
            log.error("a stored image could not be deleted (%s)", error.strerror)
            return
        self._metrics.deleted_files.labels(reason=reason).inc()

    def _count_failure(self, cause: str) -> None:
        """Count an answer that is not stored; write one line to the log in a minute."""
        self._metrics.store_failures.inc()
        with self._lock:
            self._num_unlogged += 1
            now = self._clock()
            if now - self._last_log < _LOG_SECONDS:
                return
            self._last_log, count, self._num_unlogged = now, self._num_unlogged, 0
        log.error("%d answer%s not stored; the latest: %s", count, " was" if count == 1 else "s were", cause)

    def _on_success(self) -> None:
        if self.failing:
            self.failing = False
            log.info("the directory of stored images can be written to again")


def _new_stem(digest: str) -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{digest}"


def _cause(error: StorageFull) -> str:
    """Return the operating system's words, without the path."""
    cause = error.__cause__
    return str(cause.strerror if isinstance(cause, OSError) else error)


def _stored_files(directory: Path) -> list[_File]:
    """Return the files of the store, and none of the operator's own.

    Raises:
        OSError: the directory cannot be read.
    """
    files = []
    for path in directory.iterdir():
        stored = _STORED_FILE.fullmatch(path.name)
        match = stored or _TEMPORARY_FILE.fullmatch(path.name)
        if match is None:
            continue
        try:
            status = path.lstat()
        except OSError:  # another server deleted it
            continue
        files.append(_File(path, match["stem"], stored is None, status.st_mtime, status.st_size))
    return files
