"""Assets and inspections of a store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from blemish.errors import BadInput, Conflict, UnknownName
from blemish.inspections import tables
from blemish.inspections.access import Access, check_choice, check_text, check_version
from blemish.inspections.database import Transaction
from blemish.inspections.identifiers import new_id, now
from blemish.inspections.queries import fetch_one, fetch_page
from blemish.inspections.records import Asset, Inspection, Page
from blemish.inspections.severity import SeverityRules

MAX_JSON_CHARACTERS = 16_384


class Assets:
    """The assets of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def create(self, kind: str, reference: str, attributes: Mapping[str, Any] | None = None) -> Asset:
        """Store a new asset.

        Args:
            kind: `vehicle`, `pv_module`, `structure`, `part` or `free`.
            reference: its name outside of Blemish, at most 200 characters.
            attributes: plain values for JSON.

        Raises:
            UnknownName: there is no such kind.
            Conflict: an asset of this kind and reference exists ("conflict.asset-exists").
        """
        check_choice("asset kind", kind, tables.ASSET_KINDS)
        values = {
            "id": new_id(),
            "owner": self._access.user.owner or "",
            "kind": kind,
            "reference": check_text("reference", reference, 200, required=True),
            "attributes": check_json("attributes", attributes or {}),
            "created_at": now(),
            "version": 1,
        }

        def work(transaction: Transaction) -> Asset:
            if self._find(transaction.connection, kind, values["reference"]) is not None:
                raise Conflict(f"asset {kind} {reference!r} exists already", reason="asset-exists")
            transaction.connection.execute(sa.insert(tables.asset), [values])
            transaction.record("asset.create", "asset", values["id"], {"kind": kind, "reference": reference})
            return Asset(**values)

        return self._access.write(work)

    def find(self, kind: str, reference: str) -> Asset | None:
        """Return the asset of this kind and reference, or None."""
        with self._access.database.read() as connection:
            return self._find(connection, kind, reference.strip())

    def _find(self, connection: sa.Connection, kind: str, reference: str) -> Asset | None:
        columns = tables.asset.c
        query = sa.select(tables.asset).where(columns.kind == kind, columns.reference == reference)
        query = query.where(columns.owner == (self._access.user.owner or ""))
        row = connection.execute(query).first()
        return None if row is None else Asset.from_row(row)

    def get(self, asset_id: str) -> Asset:
        """Return an asset; raise `UnknownName` if there is none of this user."""
        with self._access.database.read() as connection:
            query = sa.select(tables.asset).where(tables.asset.c.id == asset_id)
            query = self._access.visible(query, tables.asset.c.owner)
            return fetch_one(connection, query, Asset.from_row, "asset", asset_id)

    def list(
        self,
        *,
        kind: str | None = None,
        reference: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Asset]:
        """Return assets, the newest first; `reference` is a part of theirs, in any case of letters."""
        query = self._access.visible(sa.select(tables.asset), tables.asset.c.owner)
        if kind is not None:
            check_choice("asset kind", kind, tables.ASSET_KINDS)
            query = query.where(tables.asset.c.kind == kind)
        if reference:
            query = query.where(tables.asset.c.reference.icontains(reference, autoescape=True))
        with self._access.database.read() as connection:
            return fetch_page(
                connection,
                query,
                [tables.asset.c.id],
                Asset.from_row,
                limit=limit,
                cursor=cursor,
                descending=True,
            )

    def update(self, asset_id: str, attributes: Mapping[str, Any], *, version: int | None = None) -> Asset:
        """Replace the attributes of an asset.

        Raises:
            Conflict: it has another version ("conflict.version").
        """
        checked = check_json("attributes", attributes)

        def work(transaction: Transaction) -> Asset:
            asset = self.get(asset_id)
            check_version("asset", asset.version, version)
            transaction.connection.execute(
                sa.update(tables.asset)
                .where(tables.asset.c.id == asset_id)
                .values(attributes=checked, version=asset.version + 1)
            )
            transaction.record("asset.update", "asset", asset_id, {"attributes": checked})
            return self.get(asset_id)

        return self._access.write(work)


class Inspections:
    """The inspections of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def create(
        self,
        asset_id: str,
        *,
        kind: str = "",
        phase: str = "periodic",
        previous_id: str | None = None,
        required_views: Sequence[str] = (),
        severity: SeverityRules | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> Inspection:
        """Store a new inspection.

        Args:
            asset_id: the asset.
            kind: free text, at most 64 characters.
            phase: `before`, `after` or `periodic`.
            previous_id: an earlier inspection of the same asset, to compare with.
            required_views: names of the views of a complete inspection.
            severity: the rules; they are stored with the inspection.
            policy: further plain values.

        Raises:
            UnknownName: the asset, the phase or the previous inspection does not exist.
            BadInput: the previous inspection is of another asset ("bad-input.previous").
        """
        check_choice("phase", phase, tables.PHASES)
        views = [check_text("view", view, 64, required=True) for view in required_views]
        if len(set(views)) != len(views):
            raise BadInput("required views: a view appears twice", reason="views")
        rules = {} if severity is None else {"severity": severity.to_dict()}
        values = {
            "id": new_id(),
            "owner": self._access.user.owner or "",
            "asset_id": asset_id,
            "previous_id": previous_id,
            "kind": check_text("kind", kind, 64),
            "phase": phase,
            "status": "open",
            "required_views": views,
            "policy": check_json("policy", {**(policy or {}), **rules}, max_characters=200_000),
            "comparison": None,
            "open_findings": 0,
            "needs_review": 1,
            "created_at": now(),
            "updated_at": now(),
            "version": 1,
        }

        def work(transaction: Transaction) -> Inspection:
            Assets(self._access).get(asset_id)
            if previous_id is not None:
                previous = self._access.inspection(transaction.connection, previous_id)
                if previous.asset_id != asset_id:
                    raise BadInput("previous: expected an inspection of the same asset", reason="previous")
            transaction.connection.execute(sa.insert(tables.inspection), [values])
            transaction.record(
                "inspection.create", "inspection", values["id"], {"asset_id": asset_id, "phase": phase}
            )
            return Inspection(**values)

        return self._access.write(work)

    def get(self, inspection_id: str) -> Inspection:
        """Return an inspection; raise `UnknownName` if there is none of this user."""
        with self._access.database.read() as connection:
            return self._access.inspection(connection, inspection_id)

    def find(self, prefix: str) -> Inspection:
        """Return the only inspection whose id begins or ends with a text, as users type it.

        Raises:
            UnknownName: there is none.
            BadInput: there are several ("bad-input.ambiguous-id").
        """
        wanted = prefix.strip().upper()
        columns = tables.inspection.c
        if not wanted.isalnum():
            raise UnknownName("inspection", prefix, ())
        query = sa.select(tables.inspection).where(
            columns.id.startswith(wanted) | columns.id.endswith(wanted)
        )
        with self._access.database.read() as connection:
            rows = connection.execute(self._access.visible(query, columns.owner).limit(2)).all()
        if not rows:
            raise UnknownName("inspection", prefix, ())
        if len(rows) > 1:
            raise BadInput(
                f"inspection {prefix!r}: several ids match. Type more of it.", reason="ambiguous-id"
            )
        return Inspection.from_row(rows[0])

    def list(
        self,
        *,
        asset_id: str | None = None,
        status: str | None = None,
        needs_review: bool | None = None,
        reference: str | None = None,
        asset_kind: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Inspection]:
        """Return inspections: those that need a review first, then the newest first.

        Args:
            asset_id: of this asset only.
            status: `open` or `closed`.
            needs_review: whether they need a review.
            reference: a part of the asset's reference, in any case of letters.
            asset_kind: kind of the asset.
            limit: number of inspections, 1 to 500.
            cursor: `next_cursor` of the page before.
        """
        columns = tables.inspection.c
        query = self._access.visible(sa.select(tables.inspection), columns.owner)
        if asset_id is not None:
            query = query.where(columns.asset_id == asset_id)
        if status is not None:
            check_choice("status", status, tables.STATUSES)
            query = query.where(columns.status == status)
        if needs_review is not None:
            query = query.where(columns.needs_review == int(needs_review))
        if asset_kind is not None:
            check_choice("asset kind", asset_kind, tables.ASSET_KINDS)
        if reference or asset_kind is not None:
            query = query.join(tables.asset)
            if reference:
                query = query.where(tables.asset.c.reference.icontains(reference, autoescape=True))
            if asset_kind is not None:
                query = query.where(tables.asset.c.kind == asset_kind)
        with self._access.database.read() as connection:
            return fetch_page(
                connection,
                query,
                [columns.needs_review, columns.id],
                Inspection.from_row,
                limit=limit,
                cursor=cursor,
                types=(int, str),
                descending=True,
            )

    def set_status(self, inspection_id: str, status: str, *, version: int | None = None) -> Inspection:
        """Close an inspection, or open it again.

        Raises:
            Conflict: it has another version ("conflict.version").
        """
        check_choice("status", status, tables.STATUSES)

        def work(transaction: Transaction) -> Inspection:
            changed = self._access.change(
                transaction, inspection_id, version=version, reopens=True, status=status
            )
            transaction.record("inspection.status", "inspection", inspection_id, {"status": status})
            return changed

        return self._access.write(work)


def check_json(field: str, values: Any, *, max_characters: int = MAX_JSON_CHARACTERS) -> Any:
    """Return plain values as JSON gives them back.

    Raises:
        BadInput: they cannot be written as JSON, or are too long ("bad-input.json").
    """
    try:
        text = json.dumps(values, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise BadInput(f"{field}: expected plain values for JSON ({error})", reason="json") from error
    if len(text) > max_characters:
        raise BadInput(f"{field}: expected at most {max_characters} characters of JSON", reason="json")
    if "\\u0000" in text:
        raise BadInput(f"{field}: expected text without zero characters", reason="json")
    return json.loads(text)
