"""`InspectionStore`: a folder with a database and files, in which inspections are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from blemish.errors import BadStore, Conflict, StorageFull
from blemish.inspections import audit, tables
from blemish.inspections.access import Access, User
from blemish.inspections.database import Database, Transaction
from blemish.inspections.file_store import FileStore
from blemish.inspections.finding_records import Findings
from blemish.inspections.identifiers import now
from blemish.inspections.image_records import Images
from blemish.inspections.inspection_records import Assets, Inspections
from blemish.inspections.report_records import Reports
from blemish.inspections.review_records import Reviews
from blemish.model_file import write_atomically

_MARKER = "store.json"
_FORMAT = 1


class InspectionStore:
    """Assets, inspections, images, findings, reviews and reports; threads and processes may share it.

    What a method returned is durable: it survives the end of the process and a power failure.

    Attributes:
        folder: of the files, and of the database if that is SQLite.
        access: the database and the files.
        assets: see `Assets`.
        inspections: see `Inspections`.
        images: see `Images`.
        findings: see `Findings`.
        reviews: see `Reviews`.
        reports: see `Reports`.
    """

    def __init__(self, folder: Path, access: Access) -> None:
        self.folder, self.access = folder, access
        self.assets, self.inspections = Assets(access), Inspections(access)
        self.images, self.findings = Images(access), Findings(access)
        self.reviews, self.reports = Reviews(access), Reports(access)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        database: str | None = None,
        create: bool = False,
        user: User | None = None,
    ) -> Self:
        """Open a store.

        Args:
            folder: of the store.
            database: URL of a PostgreSQL database; default: a SQLite file in the folder.
            create: whether to create the store if the folder does not exist or is empty.
            user: for reviews and the audit chain; default: `local`.

        Raises:
            BadStore: there is no store ("bad-store.not-found"), the folder has other files
                ("bad-store.not-a-store"), or a later version of Blemish wrote it ("bad-store.later-version").
            StorageFull: it cannot be created.
        """
        folder = Path(folder)
        marker = folder / _MARKER
        if not marker.is_file():
            if not create:
                raise BadStore(
                    f"{folder}: there is no store of inspections. Run blemish inspections create.",
                    reason="not-found",
                )
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise BadStore(f"{folder}: expected a new or an empty folder", reason="not-a-store")
            _create(folder, database)
        try:
            found = json.loads(marker.read_bytes())["blemish_inspections"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadStore(
                f"{marker}: cannot be read as the marker of a store", reason="not-a-store"
            ) from error
        if found != _FORMAT:
            raise BadStore(f"{folder}: a store of format {found}. Update Blemish.", reason="later-version")
        access = Access(Database(folder, database), FileStore(folder / "files"), user or User())
        return cls(folder, access)

    def for_user(self, user: User) -> InspectionStore:
        """Return the same store as another user sees it."""
        return InspectionStore(self.folder, Access(self.access.database, self.access.files, user))

    def close(self) -> None:
        """Close the connections to the database."""
        self.access.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *rest: object) -> None:
        self.close()

    def audit_head(self) -> audit.Head:
        """Return the head of the audit chain."""
        with self.access.database.read() as connection:
            return audit.read_head(connection)

    def once(
        self, key: str, request_digest: str, work: Callable[[], tuple[int, Mapping[str, Any]]]
    ) -> tuple[int, dict[str, Any], bool]:
        """Run a write once for each idempotency key of the user; a repetition gets the stored answer.

        The key is stored in the transaction of the write itself, so that both are kept or neither.

        Args:
            key: chosen by the client, at most 255 characters.
            request_digest: SHA-256 of the request.
            work: writes, and returns status and answer.

        Returns:
            Status, answer, and whether they are those of an earlier request.

        Raises:
            Conflict: the key was used for another request ("conflict.idempotency-key").
        """
        owner, columns = self.access.user.owner or "", tables.idempotency_key.c

        def transact(transaction: Transaction) -> tuple[int, dict[str, Any], bool]:
            query = sa.select(tables.idempotency_key).where(columns.owner == owner, columns.key == key)
            row = transaction.connection.execute(query).first()
            if row is not None:
                if row.request_digest != request_digest:
                    raise Conflict(f"the key {key!r} was used for another request", reason="idempotency-key")
                return row.status, row.response, True
            status, response = work()
            values = {
                "owner": owner,
                "key": key,
                "request_digest": request_digest,
                "status": status,
                "response": dict(response),
                "created_at": now(),
            }
            transaction.connection.execute(sa.insert(tables.idempotency_key), [values])
            return status, dict(response), False

        return self.access.write(transact)


def _create(folder: Path, database: str | None) -> None:
    """Create a store in a new or an empty folder; on a full disk, leave nothing in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFull(f"{folder}: cannot be created ({error.strerror}).") from error
    try:
        FileStore(folder / "files")
        Database(folder, database).close()
        write_atomically(folder / _MARKER, json.dumps({"blemish_inspections": _FORMAT}).encode())
    except (BadStore, StorageFull):
        if not (folder / _MARKER).exists():  # it is written last: this was no store yet
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
