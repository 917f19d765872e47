"""Decisions of persons: appended, never changed; what a model found stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from blemish.errors import BadInput
from blemish.inspections import tables
from blemish.inspections.access import Access, check_choice, check_text, check_version
from blemish.inspections.database import Transaction
from blemish.inspections.finding_records import (
    NewFinding,
    area_share,
    build_row,
    check_outline,
    grade,
    rules_of,
)
from blemish.inspections.identifiers import new_id, now
from blemish.inspections.image_records import Images
from blemish.inspections.queries import fetch_one
from blemish.inspections.records import EDITABLE, Finding, Inspection, Review

_STATE_AFTER = {"accept": "accepted", "reject": "rejected", "edit": "accepted", "contest": "contested"}
MAX_NOTE = 4000


class Reviews:
    """The reviews of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def decide(
        self,
        finding_id: str,
        action: str,
        *,
        changes: Mapping[str, Any] | None = None,
        reason: str = "",
        note: str = "",
        reviewer: str | None = None,
        version: int | None = None,
    ) -> Review:
        """Store a decision about a finding.

        Args:
            finding_id: the finding.
            action: `accept`, `reject`, `edit`, `contest` or `note`.
            changes: for `edit`: some of `label`, `box_xyxy`, `polygons`, `part` and `severity_level`. Without
                a severity level, the rules of the inspection grade the changed finding.
            reason: short, at most 200 characters.
            note: free text.
            reviewer: who decides; default: the user.
            version: the version that the finding must have; None accepts any.

        Raises:
            UnknownName: the finding or the action does not exist.
            BadInput: `changes` without `edit` or the other way round, or an impossible change.
            Conflict: the finding has another version, or the inspection is closed.
        """
        check_choice("action", action, [name for name in tables.ACTIONS if name != "add"])
        if (action == "edit") != bool(changes):
            raise BadInput("changes: expected with the action edit, and only there", reason="changes")
        texts = self._texts(reason, note, reviewer, needs_note=action == "note")

        def work(transaction: Transaction) -> Review:
            connection = transaction.connection
            finding = self._finding(connection, finding_id)
            check_version("finding", finding.version, version)
            inspection = self._access.inspection(connection, finding.inspection_id)
            before = {"state": finding.state, **finding.effective()}
            current = finding.current
            if changes:
                current = (finding.current or {}) | self._checked(finding, changes, inspection)
            state = _STATE_AFTER.get(action, finding.state)
            connection.execute(
                sa.update(tables.finding)
                .where(tables.finding.c.id == finding_id)
                .values(
                    state=state,
                    current=current,
                    current_label=(current or {}).get("label", finding.label),
                    version=finding.version + 1,
                )
            )
            after = {"state": state, **self._finding(connection, finding_id).effective()}
            return self._append(transaction, finding.inspection_id, finding_id, action, texts, before, after)

        return self._access.write(work)

    def add(
        self,
        inspection_id: str,
        new: NewFinding,
        *,
        reason: str = "",
        note: str = "",
        reviewer: str | None = None,
    ) -> Finding:
        """Store a finding of a person, which is accepted at once.

        Raises:
            BadInput: it has a score, or an outline outside of its image.
            Conflict: the inspection is closed.
        """
        if new.score is not None:
            raise BadInput("score: a person's finding has none", reason="score")
        texts = self._texts(reason, note, reviewer)

        def work(transaction: Transaction) -> Finding:
            inspection = self._access.inspection(transaction.connection, inspection_id)
            images = {image.id: image for image in Images(self._access).of_inspection(inspection_id)}
            row = build_row(new, inspection_id, images, rules_of(inspection)) | {"state": "accepted"}
            transaction.connection.execute(sa.insert(tables.finding), [row])
            finding = Finding(**row)
            after = {"state": "accepted", **finding.effective()}
            self._append(transaction, inspection_id, finding.id, "add", texts, None, after)
            return finding

        return self._access.write(work)

    def note(self, inspection_id: str, note: str, *, reviewer: str | None = None) -> Review:
        """Store a note about a whole inspection."""
        texts = self._texts("", note, reviewer, needs_note=True)
        return self._access.write(
            lambda transaction: self._append(transaction, inspection_id, None, "note", texts, None, None)
        )

    def of_inspection(self, inspection_id: str) -> tuple[Review, ...]:
        """Return all reviews of an inspection, the oldest first."""
        return self._select(inspection_id, tables.review.c.inspection_id == inspection_id)

    def of_finding(self, finding: Finding) -> tuple[Review, ...]:
        """Return the reviews of one finding, the oldest first."""
        return self._select(finding.inspection_id, tables.review.c.finding_id == finding.id)

    def _select(self, inspection_id: str, condition: sa.ColumnElement[bool]) -> tuple[Review, ...]:
        with self._access.database.read() as connection:
            self._access.inspection(connection, inspection_id)
            query = sa.select(tables.review).where(condition).order_by(tables.review.c.id)
            return tuple(map(Review.from_row, connection.execute(query)))

    def _texts(
        self, reason: str, note: str, reviewer: str | None, *, needs_note: bool = False
    ) -> dict[str, str]:
        name = self._access.user.name if reviewer is None else reviewer
        return {
            "reviewer": check_text("reviewer", name, 100, required=True),
            "reason": check_text("reason", reason, 200),
            "note": check_text("note", note, MAX_NOTE, required=needs_note),
        }

    def _finding(self, connection: sa.Connection, finding_id: str) -> Finding:
        query = sa.select(tables.finding).join(tables.inspection).where(tables.finding.c.id == finding_id)
        query = self._access.visible(query, tables.inspection.c.owner)
        return fetch_one(connection, query, Finding.from_row, "finding", finding_id)

    def _checked(
        self, finding: Finding, changes: Mapping[str, Any], inspection: Inspection
    ) -> dict[str, Any]:
        """Return checked changes, with the severity of the changed finding."""
        for name in changes:
            check_choice("change", name, EDITABLE)
        checked = dict(changes)
        image = Images(self._access).get(finding.image_id)
        for name, length in (("label", 200), ("part", 200), ("severity_level", 32)):
            if name in checked:
                checked[name] = check_text(name, str(checked[name]), length, required=name == "label")
        if "box_xyxy" in checked or "polygons" in checked:
            # A redrawn box has no longer the outline of the model, and the other way round.
            box, polygons = check_outline(checked.get("box_xyxy"), checked.get("polygons"), image)
            checked |= {"box_xyxy": box, "polygons": polygons}
        rules = rules_of(inspection)
        if "severity_level" in checked:
            if rules is not None and checked["severity_level"]:
                check_choice("severity level", checked["severity_level"], rules.levels)
        elif rules is not None:
            now_is = finding.effective() | checked
            share = area_share(now_is["box_xyxy"], now_is["polygons"], image)
            share = finding.area_share if share is None else share
            level, rule = grade(rules, now_is["label"], now_is["part"], share, finding.measures)
            checked |= {"severity_level": level, "severity_rule": rule}
        return checked

    def _append(
        self,
        transaction: Transaction,
        inspection_id: str,
        finding_id: str | None,
        action: str,
        texts: Mapping[str, str],
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> Review:
        values: dict[str, Any] = {
            "id": new_id(),
            "inspection_id": inspection_id,
            "finding_id": finding_id,
            "action": action,
            **texts,
            "before": before,
            "after": after,
            "created_at": now(),
        }
        transaction.connection.execute(sa.insert(tables.review), [values])
        self._access.change(transaction, inspection_id)
        details = {"review_id": values["id"], "finding_id": finding_id, "reviewer": texts["reviewer"]}
        transaction.record(f"review.{action}", "inspection", inspection_id, details)
        return Review(**values)
