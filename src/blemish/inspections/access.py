"""Who uses the store, and what the repositories share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from blemish.errors import BadInput, Conflict, UnknownName
from blemish.inspections import tables
from blemish.inspections.database import Database, Transaction
from blemish.inspections.file_store import FileStore
from blemish.inspections.identifiers import now
from blemish.inspections.queries import fetch_one
from blemish.inspections.records import Inspection

T = TypeVar("T")


@dataclass(frozen=True)
class User:
    """Who uses the store.

    Attributes:
        name: for reviews and the audit chain.
        owner: whose assets and inspections it sees and creates; None sees all and creates for "".
    """

    name: str = "local"
    owner: str | None = None


@dataclass(frozen=True)
class Access:
    """The database and the files, as one user sees them.

    Attributes:
        database: the database.
        files: the files.
        user: the user.
    """

    database: Database
    files: FileStore
    user: User

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one durable transaction of this user; see `Database.write`."""
        return self.database.write(work, actor=self.user.name)

    def visible(self, query: sa.Select[Any], owner: sa.Column[str]) -> sa.Select[Any]:
        """Return the query without what belongs to others."""
        return query if self.user.owner is None else query.where(owner == self.user.owner)

    def inspection(self, connection: sa.Connection, inspection_id: str) -> Inspection:
        """Return an inspection.

        Raises:
            UnknownName: there is none of this user ("unknown-name.inspection").
        """
        query = sa.select(tables.inspection).where(tables.inspection.c.id == inspection_id)
        query = self.visible(query, tables.inspection.c.owner)
        return fetch_one(connection, query, Inspection.from_row, "inspection", inspection_id)

    def change(
        self,
        transaction: Transaction,
        inspection_id: str,
        *,
        version: int | None = None,
        reopens: bool = False,
        **values: Any,
    ) -> Inspection:
        """Change an inspection and return it; increase its version and count its open findings again.

        Args:
            transaction: the transaction.
            inspection_id: the inspection.
            version: the version that it must have; None accepts any.
            reopens: whether a closed inspection may be changed.
            values: of its columns.

        Raises:
            Conflict: it has another version ("conflict.version"), or is closed ("conflict.closed").
        """
        before = self.inspection(transaction.connection, inspection_id)
        check_version("inspection", before.version, version)
        if before.status == "closed" and not reopens:
            raise Conflict(
                f"inspection {inspection_id} is closed. Open it again to change it.", reason="closed"
            )
        connection = transaction.connection
        finding, runs = tables.finding, tables.prediction_run
        count = connection.execute(
            sa.select(sa.func.count())
            .select_from(finding)
            .where(finding.c.inspection_id == inspection_id, finding.c.state == "open")
        ).scalar_one()
        has_run = connection.execute(
            sa.select(runs.c.id).where(runs.c.inspection_id == inspection_id).limit(1)
        ).first()
        changed = {
            **values,
            "version": before.version + 1,
            "updated_at": now(),
            "open_findings": count,
            "needs_review": int(count > 0 or has_run is None),
        }
        connection.execute(
            sa.update(tables.inspection).where(tables.inspection.c.id == inspection_id).values(changed)
        )
        return self.inspection(connection, inspection_id)


def check_version(kind: str, actual: int, expected: int | None) -> None:
    """Raise `Conflict` ("conflict.version") unless a record has the expected version or any is accepted."""
    if expected is not None and actual != expected:
        raise Conflict(
            f"{kind}: expected version {expected}, got {actual}. Read it again, and repeat the change.",
            reason="version",
        )


def check_choice(field: str, value: str, choices: Iterable[str]) -> None:
    """Raise `UnknownName` unless a value is one of the choices."""
    if value not in (known := tuple(choices)):
        raise UnknownName(field, value, known)


def check_text(field: str, value: str, max_length: int, *, required: bool = False) -> str:
    """Return a text without surrounding spaces.

    Raises:
        BadInput: it is too long, empty although it is required, or contains control characters
            ("bad-input.text").
    """
    text = value.strip()
    if required and not text:
        raise BadInput(f"{field}: expected a text, got an empty one", reason="text")
    if len(text) > max_length:
        raise BadInput(f"{field}: expected at most {max_length} characters, got {len(text)}", reason="text")
    if any(ord(character) < 32 and character not in "\n\t" for character in text) or "\x7f" in text:
        raise BadInput(f"{field}: expected text without control characters", reason="text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{field}: expected valid Unicode", reason="text") from error
    return text
