"""The audit chain: every event contains the hash of the one before it.

A changed, removed or inserted event breaks the chain from there on; a chain whose head is printed on a report
cannot be replaced by another one unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from blemish.inspections.identifiers import now
from blemish.inspections.tables import audit_event

FIRST_HASH = "0" * 64
_FIELDS = (
    "sequence",
    "operation",
    "at",
    "actor",
    "action",
    "object_kind",
    "object_id",
    "details",
    "previous_hash",
)


@dataclass(frozen=True)
class Head:
    """The newest event of the chain.

    Attributes:
        sequence: its number, from 1; 0 for an empty chain.
        hash: its SHA-256; 64 zeros for an empty chain.
    """

    sequence: int = 0
    hash: str = FIRST_HASH


@dataclass(frozen=True)
class ChainFault:
    """Where the chain is broken.

    Attributes:
        sequence: the number of the event.
        reason: `missing`, `hash` (its content was changed) or `link` (it does not follow the one before it).
    """

    sequence: int
    reason: str


def read_head(connection: sa.Connection) -> Head:
    """Return the head of the chain."""
    newest = (
        sa.select(audit_event.c.sequence, audit_event.c.hash).order_by(audit_event.c.sequence.desc()).limit(1)
    )
    row = connection.execute(newest).first()
    return Head() if row is None else Head(row.sequence, row.hash)


def append(connection: sa.Connection, head: Head, *, details: dict[str, Any], **fields: str) -> Head:
    """Append one event and return the new head.

    Args:
        connection: inside the transaction of the change that the event describes.
        head: of the chain.
        details: plain values.
        fields: operation, actor, action, object_kind and object_id.
    """
    event: dict[str, Any] = {
        **fields,
        "sequence": head.sequence + 1,
        "at": now(),
        "details": json.dumps(details, sort_keys=True, ensure_ascii=False, allow_nan=False),
        "previous_hash": head.hash,
    }
    event["hash"] = event_hash(event)
    connection.execute(sa.insert(audit_event), [event])
    return Head(event["sequence"], event["hash"])


def event_hash(event: Any) -> str:
    """Return the SHA-256 of one event, over its fields and the hash of the event before it.

    Args:
        event: mapping with the columns of the table.
    """
    content = json.dumps([event[name] for name in _FIELDS], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def verify_chain(connection: sa.Connection) -> tuple[Head, ChainFault | None]:
    """Return the head of the chain, and its first fault or None."""
    head = Head()
    rows = connection.execution_options(stream_results=True).execute(
        sa.select(audit_event).order_by(audit_event.c.sequence)
    )
    for row in rows.mappings():
        if row["sequence"] != head.sequence + 1:
            return head, ChainFault(head.sequence + 1, "missing")
        if row["previous_hash"] != head.hash:
            return head, ChainFault(row["sequence"], "link")
        if event_hash(row) != row["hash"]:
            return head, ChainFault(row["sequence"], "hash")
        head = Head(row["sequence"], row["hash"])
    return head, None
