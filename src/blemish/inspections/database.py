"""Connections and transactions: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from blemish.errors import BadInput, BadStore, BlemishError, MissingExtra, StorageFull
from blemish.inspections import audit, tables
from blemish.inspections.identifiers import new_id
from blemish.inspections.migrate import migrate

T = TypeVar("T")
BUSY_MILLISECONDS = 30_000
_ATTEMPTS = 6
_FIRST_PAUSE_SECONDS = 0.2
_WRITERS_LOCK = 5_218_340_917  # PostgreSQL's advisory lock: one writer at a time keeps the audit chain linear
_FILE_NAME = "inspections.db"
_PG_DISK_FULL = ("53100", "53200")
_RETRIED_STATES = ("57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006", "40001", "40P01")


@dataclass
class Transaction:
    """One write: everything in it is stored, or nothing.

    Attributes:
        connection: the connection inside the transaction.
        actor: who writes, for the audit chain.
        operation: identifies the write, so that a repetition after a lost connection does nothing twice.
    """

    connection: sa.Connection
    actor: str
    operation: str
    _head: audit.Head | None = field(default=None)

    def record(self, action: str, kind: str, object_id: str, details: dict[str, Any] | None = None) -> None:
        """Append an event to the audit chain."""
        head = self._head or audit.read_head(self.connection)
        self._head = audit.append(
            self.connection,
            head,
            operation=self.operation,
            actor=self.actor,
            action=action,
            object_kind=kind,
            object_id=object_id,
            details=details or {},
        )


class Database:
    """The database of one store; threads may share it.

    Attributes:
        url: the address, without the password when it is printed.
        engine: SQLAlchemy's engine.
    """

    def __init__(self, folder: Path, address: str | None = None) -> None:
        """Connect, and bring the tables up to date.

        Args:
            folder: of the store; it contains the SQLite file.
            address: URL of a PostgreSQL database, such as `postgresql://user@host/name`.

        Raises:
            BadInput: the address is not a URL of PostgreSQL ("bad-input.database-url").
            BadStore: the database cannot be opened, or a later version of Blemish wrote it.
            MissingExtra: PostgreSQL's driver is not installed.
        """
        self.url = _parse(folder, address)
        self._local = threading.local()
        try:
            self.engine = sa.create_engine(self.url, pool_pre_ping=not self.is_sqlite)
        except ModuleNotFoundError as error:
            raise MissingExtra("postgresql", "a PostgreSQL database") from error
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        try:
            with self._begin(write=True) as connection:
                migrate(connection)
        except DBAPIError as error:
            raise translate(error, self.url) from error

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def sqlite_path(self) -> Path | None:
        """The SQLite file, or None."""
        return Path(self.url.database or "") if self.is_sqlite else None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def write(self, work: Callable[[Transaction], T], *, actor: str) -> T:
        """Run `work` in one transaction, and return what it returns once that is durable.

        Inside another `write` of this thread, `work` becomes part of that transaction. After a lost
        connection or a deadlock of PostgreSQL, `work` is run again, unless the audit chain shows that the
        lost transaction was committed.

        Raises:
            StorageFull: the disk is full or read-only; nothing of `work` is stored.
            BadStore: the database is damaged, busy for too long or not reachable.
        """
        current = getattr(self._local, "transaction", None)
        if current is not None:
            return work(current)
        operation, finished = new_id(), False
        result: Any = None
        for attempt in range(_ATTEMPTS):
            try:
                with self._begin(write=True) as connection:
                    if finished and _is_committed(connection, operation):
                        return result  # type: ignore[no-any-return]
                    transaction = Transaction(connection, actor, operation)
                    self._local.transaction = transaction
                    try:
                        result = work(transaction)
                    finally:
                        self._local.transaction = None
                    finished = True
            except DBAPIError as error:
                if not _is_worth_retrying(error) or attempt == _ATTEMPTS - 1:
                    raise translate(error, self.url) from error
                time.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
            else:
                return result  # type: ignore[no-any-return]
        raise AssertionError("unreachable")  # the last attempt returns or raises

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Give a connection that sees one state of the database; inside `write`, that of the transaction.

        Raises:
            BadStore: the database is damaged or not reachable.
        """
        current = getattr(self._local, "transaction", None)
        if current is not None:
            yield current.connection
            return
        try:
            with self._begin(write=False) as connection:
                yield connection
        except DBAPIError as error:
            raise translate(error, self.url) from error

    @contextmanager
    def _begin(self, *, write: bool) -> Iterator[sa.Connection]:
        with self.engine.connect() as plain:
            connection = plain.execution_options(blemish_write=write)
            with connection.begin():
                if write and not self.is_sqlite:
                    connection.execute(
                        sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITERS_LOCK}
                    )
                yield connection


def _parse(folder: Path, address: str | None) -> URL:
    if address is None:
        return URL.create("sqlite", database=str(folder / _FILE_NAME))
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        backend = ""
    if backend != "postgresql":
        raise BadInput(
            "--database: expected the URL of a PostgreSQL database, such as postgresql://user@host/name. "
            "Without the option, the store has a SQLite file.",
            reason="database-url",
        )
    return url.set(drivername="postgresql+psycopg")


def _configure_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # this module begins transactions itself
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_MILLISECONDS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    is_write = connection.get_execution_options().get("blemish_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def _is_committed(connection: sa.Connection, operation: str) -> bool:
    events = tables.audit_event
    found = connection.execute(sa.select(events.c.sequence).where(events.c.operation == operation).limit(1))
    return found.first() is not None


def _is_worth_retrying(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.Error):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in (*_RETRIED_STATES, None)


def translate(error: DBAPIError, url: URL) -> BlemishError:
    """Return the error of Blemish for an error of the database."""
    original = error.orig
    place = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    code = getattr(original, "sqlite_errorcode", 0) & 0xFF
    if (
        code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
        or getattr(original, "sqlstate", "") in _PG_DISK_FULL
    ):
        return StorageFull(
            f"{place}: cannot be written ({original}). Free disk space; nothing was half-written."
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StorageFull(
            f"{place}: cannot be written ({original}). Check its permissions.", reason="read-only"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BadStore(f"{place}: another process has kept it locked. Try again.", reason="busy")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return BadStore(f"{place}: damaged ({original}). Restore a backup.", reason="damaged")
    if code == sqlite3.SQLITE_CANTOPEN:
        return BadStore(f"{place}: cannot be opened ({original}). Check the path.", reason="cannot-open")
    return BadStore(f"{place}: the database refused an operation ({original}).", reason="database")
