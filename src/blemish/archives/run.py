"""`predict_archive`: predictions of many images in shards, continued where an earlier run ended."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from blemish.archives.manifest import MANIFEST_NAME, Manifest, ShardRecord
from blemish.archives.shard_files import ShardFormat, require_parquet, write_shard
from blemish.archives.source_list import Listing, Unit, write_listing
from blemish.archives.worker import Row, Worker
from blemish.errors import BadInput, BlemishError, StorageFull
from blemish.inference.inputs import is_url
from blemish.model_file import lock_file

SOURCES_NAME = "sources.jsonl"
LOCK_NAME = ".lock"
ShardUnits = tuple[int, Iterator[Unit]]


class Engine(Protocol):
    """What predicts shards."""

    def run(self, shards: Iterator[ShardUnits]) -> Generator[tuple[int, Iterator[Row]]]:
        """Yield the rows of each shard, in the order of the shards.

        Args:
            shards: numbers of shards, each with its units; the units are consumed before the next shard.
        """
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Predicts one shard after the other in this process.

    Attributes:
        worker: predicts.
    """

    worker: Worker

    def run(self, shards: Iterator[ShardUnits]) -> Generator[tuple[int, Iterator[Row]]]:
        """See `Engine.run`."""
        for index, units in shards:
            rows = self.worker.predict(units)
            try:
                yield index, rows
            finally:
                rows.close()


@dataclass
class ArchiveProgress:
    """How far a run is.

    Attributes:
        shards: number of shards that are complete, those of earlier runs included.
        total_shards: number of all.
        units: number of images and tar files that are done.
        total_units: number of all.
        rows: number of images that are done.
        failed: how many of them failed.
        seconds_left: estimated from the units of this run; None before there is an estimate.
    """

    shards: int
    total_shards: int
    units: int
    total_units: int
    rows: int
    failed: int
    seconds_left: float | None = None


@dataclass(frozen=True)
class ArchiveSummary:
    """What is in the folder at the end.

    Attributes:
        folder: the shards, the manifest and the list of sources.
        shards: number of shards.
        reused_shards: how many of them an earlier run wrote.
        damaged_shards: the files of an earlier run that were gone or changed, and were written again.
        rows: number of rows, one per image.
        errors: number of rows with each error code.
        warnings: number of images of this run with a warning.
        first_warning: the first of them, or "".
    """

    folder: Path
    shards: int
    reused_shards: int
    damaged_shards: tuple[str, ...]
    rows: int
    errors: dict[str, int] = field(default_factory=dict)
    warnings: int = 0
    first_warning: str = ""

    @property
    def failed(self) -> int:
        """Number of rows with an error."""
        return sum(self.errors.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain values for JSON."""
        return {
            "folder": self.folder.as_posix(),
            "shards": self.shards,
            "reused_shards": self.reused_shards,
            "damaged_shards": list(self.damaged_shards),
            "rows": self.rows,
            "failed": self.failed,
            "errors": self.errors,
        }


def predict_archive(
    worker: Worker,
    sources: Sequence[str],
    folder: Path | str,
    *,
    shards: int | None = None,
    shard_format: ShardFormat = ShardFormat.JSONL,
    resume: bool = False,
    engine: Engine | None = None,
    stdin: Iterable[str] | None = None,
    on_progress: Callable[[ArchiveProgress], None] | None = None,
) -> ArchiveSummary:
    """Write the predictions of all images that the sources name into shards.

    Memory does not grow with the number of images. A run that was killed continues with the shards that are
    missing; its result equals that of an uninterrupted run.

    Args:
        worker: the model and the options.
        sources: images, tar files, folders, glob patterns, `-`, and URLs that fsspec reads.
        folder: new or empty, or that of the run to continue.
        shards: number of shards; see `Manifest.plan`. With `resume`, default: that of the run.
        shard_format: JSON Lines or Parquet.
        resume: whether to continue the run in the folder, if there is one.
        engine: what predicts. Default: `LocalEngine`.
        stdin: one path per line, for the source `-`.
        on_progress: called after each row.

    Raises:
        BadInput: the sources are wrong; the folder is not empty ("bad-input.output-not-empty"), is no local
            folder ("bad-input.remote-output"), contains a run that is not to be resumed
            ("bad-input.interrupted-run") or that had another model, other options or other sources
            ("bad-input.other-options"), or another process writes to it ("bad-input.in-use").
        MissingExtra: Parquet, URLs or an engine need an extra.
        NoNetwork: the store of a URL cannot be reached; the run can be resumed.
        StorageFull: the disk is full; the run can be resumed.
    """
    if is_url(folder):
        raise BadInput(
            f"{folder}: expected a folder of this machine for shards, got a URL. Write to a local folder and "
            "copy it, for example with `fsspec` or the tool of your store.",
            reason="remote-output",
        )
    if shard_format is ShardFormat.PARQUET:
        require_parquet()
    folder = Path(folder)
    _check_folder(folder, resume=resume)
    with _locked(folder):
        manifest, listing, damaged = _begin(
            folder, worker.options(), sources, stdin, shards, shard_format, resume=resume
        )
        reused = sum(record.is_complete for record in manifest.shards)
        warnings, first_warning = 0, ""
        meter = _Meter(manifest, on_progress)
        engine = engine or LocalEngine(worker)
        with closing(engine.run(_pending_units(manifest, listing, meter))) as results:
            for index, rows in results:
                path = folder / manifest.shards[index].file
                content = write_shard(path, meter.counted(rows), shard_format)
                manifest.complete(index, content)
                manifest.write(folder / MANIFEST_NAME)
                meter.end_shard(manifest.shards[index])
                warnings += content.warnings
                first_warning = first_warning or content.first_warning
        unwritten = [record.file for record in manifest.shards if not record.is_complete]
        if unwritten:
            raise BadInput(
                f"{folder}: the engine returned no rows for {len(unwritten)} shards, the first "
                f"{unwritten[0]}. Continue with --resume.",
                reason="incomplete",
            )
    errors: Counter[str] = Counter()
    for record in manifest.shards:
        errors.update(record.errors)
    return ArchiveSummary(
        folder,
        len(manifest.shards),
        reused,
        tuple(damaged),
        sum(record.rows or 0 for record in manifest.shards),
        dict(sorted(errors.items())),
        warnings,
        first_warning,
    )


def _check_folder(folder: Path, *, resume: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder for shards, got a file", reason="not-a-folder")
    if (folder / MANIFEST_NAME).exists():
        if not resume:
            raise BadInput(
                f"{folder}: contains a run of shards. Continue it with --resume, or choose another folder.",
                reason="interrupted-run",
            )
        return
    if folder.is_dir():
        others = [p.name for p in folder.iterdir() if p.name != LOCK_NAME and not _is_of_a_run(p.name)]
        if others:
            raise BadInput(
                f"{folder}: expected a new or an empty folder for shards, got one with {sorted(others)[0]}. "
                "Choose another folder.",
                reason="output-not-empty",
            )


def _is_of_a_run(name: str) -> bool:
    """Return whether a run that was killed before its manifest was written leaves such a file."""
    return name in (SOURCES_NAME, f"{SOURCES_NAME}.new") or _is_temporary(name)


def _is_temporary(name: str) -> bool:
    return name.endswith(".tmp") and name.startswith((".shard-", f".{MANIFEST_NAME}", f".{SOURCES_NAME}"))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the folder, and remove what killed ones left behind."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_NAME).open("w")
    except OSError as error:
        raise StorageFull(f"{folder} cannot be written ({error.strerror}). Choose another folder.") from error
    with file:
        if not lock_file(file):  # type: ignore[arg-type]
            raise BadInput(f"{folder}: another process is writing to this folder.", reason="in-use")
        for path in folder.iterdir():
            if _is_temporary(path.name):
                path.unlink(missing_ok=True)
        try:
            yield
        except BlemishError:
            if not (folder / MANIFEST_NAME).exists():  # nothing was begun
                (folder / SOURCES_NAME).unlink(missing_ok=True)
                _unlock(folder)
                with suppress(OSError):
                    folder.rmdir()
            raise
        _unlock(folder)


def _unlock(folder: Path) -> None:
    with suppress(OSError):  # Windows removes no open file
        (folder / LOCK_NAME).unlink()


def _begin(
    folder: Path,
    options: dict[str, Any],
    sources: Sequence[str],
    stdin: Iterable[str] | None,
    shards: int | None,
    shard_format: ShardFormat,
    *,
    resume: bool,
) -> tuple[Manifest, Listing, list[str]]:
    """List the sources, and plan a run or continue the one in the folder."""
    path, listed = folder / MANIFEST_NAME, folder / SOURCES_NAME
    earlier = Manifest.read(path) if resume and path.exists() else None
    if earlier is not None and shards is None:
        shards = len(earlier.shards)
    if earlier is None:
        listing = write_listing(listed, sources, stdin)
        manifest = Manifest.plan(options, listing, shards, shard_format)
        manifest.write(path)
        return manifest, listing, []
    new = write_listing(folder / f"{SOURCES_NAME}.new", sources, stdin)
    try:
        changed = []
        if new.digest != earlier.sources.get("sha256"):
            changed.append(f"sources: {_first_difference(listed, new.path)}")
        else:
            changed += earlier.differences(Manifest.plan(options, new, shards, shard_format))
        if changed:
            raise BadInput(
                f"{folder}: the run to resume had another model, other options or other sources "
                f"({'; '.join(changed)}). Use the same ones, or choose another folder.",
                reason="other-options",
            )
        new.path.replace(listed)
    finally:
        new.path.unlink(missing_ok=True)
    damaged = earlier.verify(folder)
    if damaged:
        earlier.write(path)
    return earlier, Listing(listed, new.count, new.tars, new.digest), damaged


def _first_difference(before: Path, now: Path) -> str:
    """Return what the first line is in which two lists of sources differ."""
    try:
        with before.open(encoding="ascii") as a, now.open(encoding="ascii") as b:
            for number, (old, new) in enumerate(itertools.zip_longest(a, b)):
                if old != new:
                    was = "nothing" if old is None else _named(old)
                    has = "nothing" if new is None else _named(new)
                    if was == has:
                        return f"{was} has changed"
                    return f"number {number + 1:,} was {was}, and is {has} now"
    except OSError:
        pass
    return "they are others"


def _named(line: str) -> str:
    try:
        return Unit.from_line(line).address
    except (ValueError, TypeError):
        return "damaged"


def _pending_units(manifest: Manifest, listing: Listing, meter: _Meter) -> Iterator[ShardUnits]:
    """Yield the pending shards, each with its part of the list, which is read once."""
    units, position = listing.units(), 0
    for index, record in manifest.pending():
        for _ in itertools.islice(units, record.first - position):
            pass
        yield index, meter.passed(itertools.islice(units, record.units))
        position = record.first + record.units


class _Meter:
    """Counts what is done, and estimates the time that is left."""

    def __init__(self, manifest: Manifest, report: Callable[[ArchiveProgress], None] | None) -> None:
        done = [record for record in manifest.shards if record.is_complete]
        self._report = report
        self._progress = ArchiveProgress(
            len(done),
            len(manifest.shards),
            sum(record.units for record in done),
            sum(record.units for record in manifest.shards),
            sum(record.rows or 0 for record in done),
            sum(sum(record.errors.values()) for record in done),
        )
        self._units_before = self._shard_units = self._progress.units
        self._started = time.monotonic()

    def passed(self, units: Iterator[Unit]) -> Iterator[Unit]:
        """Yield units, and count each when the next one is asked for."""
        for unit in units:
            yield unit
            self._progress.units += 1

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield rows, and report each."""
        progress = self._progress
        for row in rows:
            progress.rows += 1
            progress.failed += bool(row.error_code)
            self._estimate()
            yield row

    def end_shard(self, record: ShardRecord) -> None:
        """Count a shard that is complete."""
        self._progress.shards += 1
        self._shard_units += record.units
        self._progress.units = max(self._progress.units, self._shard_units)
        self._estimate()

    def _estimate(self) -> None:
        if self._report is None:
            return
        progress = self._progress
        done = progress.units - self._units_before
        if done > 1:
            seconds = time.monotonic() - self._started
            progress.seconds_left = seconds / done * (progress.total_units - progress.units)
        self._report(progress)
