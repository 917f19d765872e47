"""Written reports of a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from blemish.inspections import audit, tables
from blemish.inspections.access import Access, check_choice
from blemish.inspections.database import Transaction
from blemish.inspections.identifiers import new_id, now
from blemish.inspections.inspection_records import check_json
from blemish.inspections.queries import fetch_one
from blemish.inspections.records import Report

FORMATS = ("pdf", "html", "csv")


class Reports:
    """The reports of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def add(
        self,
        inspection_id: str,
        format: str,  # noqa: A002
        content: bytes,
        head: audit.Head,
        options: Mapping[str, Any],
    ) -> Report:
        """Store a report.

        Args:
            inspection_id: the inspection.
            format: `pdf`, `html` or `csv`.
            content: the file.
            head: of the audit chain, as printed on the report.
            options: company, claim number and so on.
        """
        check_choice("report format", format, FORMATS)
        digest = self._access.files.add(content)
        values = {
            "id": new_id(),
            "inspection_id": inspection_id,
            "format": format,
            "sha256": digest,
            "options": check_json("options", dict(options)),
            "audit_sequence": head.sequence,
            "audit_hash": head.hash,
            "created_at": now(),
        }

        def work(transaction: Transaction) -> Report:
            self._access.inspection(transaction.connection, inspection_id)
            transaction.connection.execute(sa.insert(tables.report), [values])
            details = {"report_id": values["id"], "sha256": digest, "format": format}
            transaction.record("report.add", "inspection", inspection_id, details)
            return Report(**values)

        return self._access.write(work)

    def get(self, report_id: str) -> Report:
        """Return a report; raise `UnknownName` if there is none of this user."""
        query = sa.select(tables.report).join(tables.inspection).where(tables.report.c.id == report_id)
        query = self._access.visible(query, tables.inspection.c.owner)
        with self._access.database.read() as connection:
            return fetch_one(connection, query, Report.from_row, "report", report_id)

    def content(self, report: Report) -> bytes:
        """Return the file of a report."""
        return self._access.files.read(report.sha256)

    def of_inspection(self, inspection_id: str) -> tuple[Report, ...]:
        """Return the reports of an inspection, the oldest first."""
        with self._access.database.read() as connection:
            self._access.inspection(connection, inspection_id)
            columns = tables.report.c
            query = (
                sa.select(tables.report).where(columns.inspection_id == inspection_id).order_by(columns.id)
            )
            return tuple(map(Report.from_row, connection.execute(query)))

    def by_digest(self, sha256: str) -> Report | None:
        """Return the report with this content, or None."""
        query = sa.select(tables.report).join(tables.inspection).where(tables.report.c.sha256 == sha256)
        with self._access.database.read() as connection:
            row = connection.execute(self._access.visible(query, tables.inspection.c.owner).limit(1)).first()
        return None if row is None else Report.from_row(row)
