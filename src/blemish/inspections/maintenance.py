"""Verify, back up and restore a store."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from blemish.errors import BadInput, BadStore, StorageFull
from blemish.inspections import audit, tables
from blemish.inspections.file_store import ORPHAN_SECONDS, FileStore
from blemish.inspections.store import InspectionStore
from blemish.model_file import write_atomically

_BACKUP = "backup.json"


@dataclass
class StoreCheck:
    """What `verify_store` found.

    Attributes:
        files: number of files that rows name.
        files_missing: SHA-256 of those that do not exist.
        files_changed: SHA-256 of those whose content is another.
        database: faults that the database reports about itself.
        audit_events: number of events of the audit chain.
        audit_head: hash of the newest event.
        audit_fault: the first break of the chain, such as "event 7: hash", or "".
        orphans: files without a row that are older than an hour.
        orphans_removed: whether they were removed.
    """

    files: int = 0
    files_missing: list[str] = field(default_factory=list)
    files_changed: list[str] = field(default_factory=list)
    database: list[str] = field(default_factory=list)
    audit_events: int = 0
    audit_head: str = audit.FIRST_HASH
    audit_fault: str = ""
    orphans: int = 0
    orphans_removed: bool = False

    @property
    def is_intact(self) -> bool:
        """Whether nothing is lost or changed; orphans are no loss."""
        return not (self.files_missing or self.files_changed or self.database or self.audit_fault)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"intact": self.is_intact, **asdict(self)}


def named_files(connection: sa.Connection) -> Iterator[str]:
    """Yield the SHA-256 of every file that a row names, each once."""
    both = sa.union(sa.select(tables.image.c.sha256), sa.select(tables.report.c.sha256))
    for row in connection.execute(both):
        yield row[0]


def verify_store(
    store: InspectionStore, *, remove_orphans: bool = False, min_age_seconds: float = ORPHAN_SECONDS
) -> StoreCheck:
    """Hash every file again, check the database and the audit chain, and find files without a row.

    Args:
        store: the store.
        remove_orphans: whether to remove files without a row, which a killed process leaves.
        min_age_seconds: younger files are no orphans: their row may be written next.
    """
    check = StoreCheck()
    database, files = store.access.database, store.access.files
    with database.read() as connection:
        known = set(named_files(connection))
        head, fault = audit.verify_chain(connection)
        if database.is_sqlite:
            rows = connection.exec_driver_sql("PRAGMA integrity_check").all()
            check.database += [str(row[0]) for row in rows if row[0] != "ok"]
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            check.database += [
                f"{row[0]}, row {row[1]}: refers to a row that does not exist" for row in broken
            ]
    check.audit_events, check.audit_head = head.sequence, head.hash
    check.audit_fault = "" if fault is None else f"event {fault.sequence}: {fault.reason}"
    check.files = len(known)
    for digest in sorted(known):
        if fault_of := files.fault(digest):
            (check.files_missing if fault_of == "missing" else check.files_changed).append(digest)
    orphans = list(files.orphans(known, min_age_seconds=min_age_seconds))
    check.orphans, check.orphans_removed = len(orphans), remove_orphans and bool(orphans)
    if remove_orphans:
        for path in orphans:
            with suppress(OSError):
                path.unlink()
    return check


def back_up(store: InspectionStore, folder: Path) -> int:
    """Copy a store that is in use into a new folder, and return the number of files copied.

    The database is copied by SQLite's online backup; every file that it names follows, and is hashed.

    Raises:
        BadInput: the folder is not empty ("bad-input.output-not-empty"), or the database is PostgreSQL, which
            `pg_dump` backs up ("bad-input.database").
        BadStore: a file is missing or changed.
        StorageFull: the disk is full.
    """
    source = store.access.database.sqlite_path
    if source is None:
        raise BadInput(
            "backup: expected a store with a SQLite file. Back up PostgreSQL with pg_dump, then copy the "
            "folder files/.",
            reason="database",
        )
    _require_empty(folder)
    try:
        target = FileStore(folder / "files")
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(folder / source.name)) as new:
            old.backup(new)
        with closing(sqlite3.connect(folder / source.name)) as new:
            names = [
                row[0] for row in new.execute("SELECT sha256 FROM image UNION SELECT sha256 FROM report")
            ]
        _sync_file(folder / source.name)
    except (OSError, sqlite3.Error) as error:
        raise StorageFull(
            f"{folder}: the backup cannot be written ({error}). Choose another folder."
        ) from error
    for digest in names:
        if target.add(store.access.files.read(digest)) != digest:
            raise BadStore(
                f"{store.access.files.path(digest)}: its content was changed", reason="file-changed"
            )
    write_atomically(folder / "store.json", (store.folder / "store.json").read_bytes())
    write_atomically(folder / _BACKUP, json.dumps({"files": len(names)}).encode())
    return len(names)


def restore(backup: Path, folder: Path) -> StoreCheck:
    """Make a store of a backup, and verify it.

    Args:
        backup: folder that `back_up` wrote.
        folder: new or empty.

    Raises:
        BadStore: `backup` is not a complete backup ("bad-store.backup"), or is damaged.
        BadInput: the folder is not empty.
        StorageFull: the disk is full.
    """
    if not (backup / _BACKUP).is_file():
        raise BadStore(f"{backup}: expected a complete backup of a store", reason="backup")
    _require_empty(folder)
    partial = folder.with_name(f".{folder.name}.restoring")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(backup, partial, ignore=shutil.ignore_patterns(_BACKUP))
        if hasattr(os, "sync"):
            os.sync()
        with InspectionStore.open(partial) as store:
            check = verify_store(store)
        if not check.is_intact:
            raise BadStore(f"{backup}: the backup is damaged. Use another one.", reason="damaged")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise StorageFull(
            f"{folder}: cannot be written ({error.strerror}). Choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return check


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: expected a new or an empty folder", reason="output-not-empty")
    folder.parent.mkdir(parents=True, exist_ok=True)


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
