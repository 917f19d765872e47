"""`PredictionFile`: the predictions of `predict --output-json`, in a file that an interrupted run continues.

While a run is in progress, its documents are in `FILE.partial`, one line per image: what the image was, and
its document. `FILE` itself is written at the end, atomically.
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from blemish.errors import BadInput, StorageFull
from blemish.inference import ImageInput
from blemish.model_file import lock_file, write_parts_atomically

FORMAT = 1  # of FILE.partial
SYNC_SECONDS = 1.0  # a power failure may lose the predictions of this time
FileState = tuple[int, int] | None  # bytes and time of change in nanoseconds; None without a file
_BINARY = getattr(os, "O_BINARY", 0)  # of Windows
_TEMPORARY = re.compile(r"\.(\d+)(-\d+\.tmp|\.mp4)$")


@dataclass(frozen=True, slots=True)
class _Row:
    """One prediction in the partial file.

    Attributes:
        key: path and number of the video frame.
        state: of the image file when it was read.
        failed: whether there is no prediction, or no drawing although one was requested.
        drawn: the file that shows it, or None.
        start: offset of its line.
        document: offset of its document.
        end: offset behind its line.
    """

    key: tuple[str | None, int | None]
    state: FileState
    failed: bool
    drawn: str | None
    start: int
    document: int
    end: int


class PredictionFile:
    """A context manager that collects the predictions of a run in a file.

    Attributes:
        path: the complete file, one JSON document per line, in the order of the inputs.
        partial: the file of a run in progress.
        reused: number of predictions of the interrupted run that are used.
        reused_failures: how many of them are failures.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Check that a run may write this file.

        Args:
            path: the complete file; an earlier one is replaced at the end.
            resume: whether to continue an interrupted run if there is one.

        Raises:
            BadInput: there is an interrupted run that is not to be resumed ("bad-input.interrupted-run"), or
                the file is complete ("bad-input.nothing-to-resume").
        """
        self.path, self.partial = path, path.with_name(f"{path.name}.partial")
        self.reused = self.reused_failures = 0
        self._rows: dict[tuple[str | None, int | None], deque[_Row]] = {}
        self._order: list[tuple[int, int]] = []  # of the documents: offset, and offset behind the line
        self._waiting: deque[tuple[int, FileState]] = deque()  # places in the order of inputs in progress
        self._synced = time.monotonic()
        self._file: IO[bytes] | None = None
        self._is_needed = False  # whether the partial file contains predictions to resume from
        if self.partial.exists() and not resume:
            raise BadInput(
                f"{self.partial}: predictions of an interrupted run. Continue it with --resume, or delete "
                "the file to start again.",
                reason="interrupted-run",
            )
        if resume and path.exists() and not self.partial.exists():
            raise BadInput(
                f"{path}: this file is complete, so that there is nothing to resume. Remove --resume to "
                "replace it, or choose another file.",
                reason="nothing-to-resume",
            )

    def open(self, options: Mapping[str, Any], *, batch_size: int = 1, drawn_in: Path | None = None) -> Self:
        """Begin the run, or read what the interrupted run has done.

        Args:
            options: the model and everything else that the predictions depend on.
            batch_size: images per forward pass. Only complete batches are used again, so that the following
                batches contain the same images as without the interruption.
            drawn_in: folder of the drawn images. A video that was not drawn to its end is predicted again.

        Raises:
            BadInput: the interrupted run had other options ("bad-input.other-options"), is still running
                ("bad-input.in-use"), or the partial file is no such file ("bad-input.partial-file").
            StorageFull: the file cannot be written.
        """
        try:
            self.partial.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(self.partial, os.O_RDWR | os.O_CREAT | _BINARY, 0o666), "r+b")
        except OSError as error:
            raise StorageFull(
                f"{self.partial} cannot be written ({error.strerror}). Choose another file."
            ) from error
        try:
            if not lock_file(self._file):
                raise BadInput(f"{self.partial}: another process is writing this file.", reason="in-use")
            rows, processes = self._read(self._file, options)
        except BadInput:
            self._file.close()
            raise
        if drawn_in is not None:
            _remove_temporary_files(drawn_in, processes)
        _remove_temporary_files(self.path.parent, processes, prefix=f".{self.path.name}.")
        rows = _complete_part(rows, batch_size, videos_drawn=drawn_in is not None)
        try:
            if rows:
                self._file.truncate(rows[-1].end)
                self._file.seek(0, os.SEEK_END)
            else:
                self._file.truncate(0)
                self._file.seek(0)
                self._append(json.dumps({"blemish_predict": FORMAT, "options": options}).encode() + b"\n")
            self._append(json.dumps({"process": os.getpid()}).encode() + b"\n")
        except OSError as error:
            raise self._storage_full(error) from error
        self._is_needed = bool(rows)
        states = _FileStates()
        for row in rows:
            is_drawn = row.drawn is None or Path(row.drawn).is_file()
            if is_drawn and states.of(row.key[0]) == row.state:
                self._rows.setdefault(row.key, deque()).append(row)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # what a full disk did not take cannot be written now either
            self._file.close()
        self._file = None
        if not self._is_needed:
            self.partial.unlink(missing_ok=True)

    @property
    def drawn_files(self) -> frozenset[str]:
        """The names of the drawn files that are used again."""
        rows = (row for same in self._rows.values() for row in same)
        return frozenset(Path(row.drawn).name for row in rows if row.drawn is not None)

    def pending(self, inputs: Iterable[ImageInput]) -> Iterator[ImageInput]:
        """Yield the inputs without a prediction, in order; `add` receives their results in the same order."""
        states = _FileStates()
        for source in inputs:
            key = _key(source)
            same = self._rows.get(key)
            if same:
                row = same.popleft()
                self._order.append((row.document, row.end))
                self.reused += 1
                self.reused_failures += row.failed
                continue
            self._waiting.append((len(self._order), states.of(key[0])))
            self._order.append((0, 0))
            yield source

    def add(self, source: ImageInput, document: str, *, failed: bool, drawn: Path | None) -> None:
        """Append the result of the next pending input.

        Args:
            source: the input.
            document: one line of JSON.
            failed: whether the image has no prediction, or no drawing although one was requested.
            drawn: the file that shows the prediction.

        Raises:
            StorageFull: the disk is full; the predictions before this one are kept.
        """
        place, state = self._waiting.popleft()
        assert self._file is not None  # noqa: S101  (within the context)
        content = document.encode("ascii") + b"\n"
        path, frame = _key(source)
        facts = [zlib.crc32(content), path, frame, state, failed, None if drawn is None else str(drawn)]
        head = json.dumps(facts).encode() + b"\t"
        start = self._file.tell()
        try:
            self._append(head + content)
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise self._storage_full(error) from error
        self._is_needed = True
        self._order[place] = (start + len(head), start + len(head) + len(content))

    def finish(self) -> None:
        """Write the complete file and remove the partial one.

        Raises:
            StorageFull: the disk is full; the run can be resumed.
        """
        file = self._file
        assert file is not None  # noqa: S101  (within the context)

        def documents() -> Iterator[bytes]:
            for start, end in self._order:
                file.seek(start)
                yield file.read(end - start)

        write_parts_atomically(self.path, documents())
        self._is_needed = False

    def _append(self, line: bytes) -> None:
        assert self._file is not None  # noqa: S101  (within the context)
        self._file.write(line)
        self._file.flush()

    def _read(self, file: IO[bytes], options: Mapping[str, Any]) -> tuple[list[_Row], set[int]]:
        """Return the intact rows of the interrupted run, and the processes that wrote them."""
        rows: list[_Row] = []
        processes: set[int] = set()
        header = file.readline()
        if not header.endswith(b"\n"):  # killed while it was created
            if b'{"blemish_predict"'.startswith(header[:18]):
                return rows, processes
            raise self._not_partial()
        try:
            begun = json.loads(header)
            version, before = begun["blemish_predict"], begun["options"]
        except (ValueError, LookupError, TypeError):
            raise self._not_partial() from None
        self._compare({"partial_format": version, **before}, {"partial_format": FORMAT, **options})
        end = len(header)
        for line in file:
            start, end = end, end + len(line)
            try:
                if not line.endswith(b"\n"):
                    break
                if line.startswith(b"{"):
                    processes.add(int(json.loads(line)["process"]))
                    continue
                head, _, content = line.partition(b"\t")
                crc, path, frame, state, failed, drawn = json.loads(head)
            except (ValueError, LookupError, TypeError):
                break  # damaged from here on
            if zlib.crc32(content) != crc:
                break
            file_state = None if state is None else (state[0], state[1])
            rows.append(_Row((path, frame), file_state, failed, drawn, start, start + len(head) + 1, end))
        return rows, processes

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(now))
        changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if changed:
            listed = "; ".join(
                f"{key.replace('_', ' ')}: {_shown(before.get(key))} before, {_shown(now.get(key))} now"
                for key in changed
            )
            raise BadInput(
                f"{self.partial}: the interrupted run had other options ({listed}). Use the same model and "
                "options, or delete the file to start again.",
                reason="other-options",
            )

    def _not_partial(self) -> BadInput:
        return BadInput(
            f"{self.partial}: expected the predictions of an interrupted run, got another file. Choose "
            "another name for --output-json.",
            reason="partial-file",
        )

    def _storage_full(self, error: OSError) -> StorageFull:
        return StorageFull(
            f"{self.partial} cannot be written ({error.strerror}); free disk space and continue with --resume"
        )


class _FileStates:
    """Looks up the states of files; the frames of a video are looked up once."""

    def __init__(self) -> None:
        self._last: tuple[str | None, FileState] = (None, None)

    def of(self, path: str | None) -> FileState:
        """Return bytes and time of change of a file; None without a file."""
        if path is None:
            return None
        if path != self._last[0]:
            try:
                found = Path(path).stat()
                self._last = (path, (found.st_size, found.st_mtime_ns))
            except (OSError, ValueError):
                self._last = (path, None)
        return self._last[1]


def _key(source: ImageInput) -> tuple[str | None, int | None]:
    return (None if source.path is None else str(source.path), source.frame_index)


def _complete_part(rows: list[_Row], batch_size: int, *, videos_drawn: bool) -> list[_Row]:
    """Return the rows of complete batches and, if they are drawn, of complete videos."""
    count = -1
    kept = len(rows)
    while kept != count:
        count = kept
        kept -= kept % batch_size
        if videos_drawn and kept and rows[kept - 1].key[1] is not None:
            video = rows[kept - 1].key[0]
            while kept and rows[kept - 1].key[0] == video:
                kept -= 1
    return rows[:kept]


def _remove_temporary_files(folder: Path, processes: set[int], prefix: str = ".") -> None:
    """Remove the temporary files that killed processes of this run left behind."""
    if not processes or not folder.is_dir():
        return
    for path in folder.iterdir():
        match = _TEMPORARY.search(path.name)
        if match and path.name.startswith(prefix) and int(match[1]) in processes:
            path.unlink(missing_ok=True)


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)[:60]
