"""Pages of lists by cursor, and rows by id."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from blemish.errors import BadInput, UnknownName
from blemish.inspections.records import Page, Record

R = TypeVar("R", bound=Record)
MAX_PAGE = 500


def encode_cursor(values: Sequence[Any]) -> str:
    """Return the opaque text of a position in a list.

    Example:
        >>> decode_cursor(encode_cursor([1, "01AB"]), (int, str))
        [1, '01AB']
    """
    return base64.urlsafe_b64encode(json.dumps(list(values)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, types: tuple[type, ...]) -> list[Any]:
    """Return the values of a cursor.

    Raises:
        BadInput: it is not a cursor of this list ("bad-input.cursor").
    """
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        values = None
    fits = isinstance(values, list) and [type(value) for value in values] == list(types)
    if not fits:
        raise BadInput("cursor: expected the next_cursor of an earlier answer of this list", reason="cursor")
    return list(values)


def fetch_page(
    connection: sa.Connection,
    query: sa.Select[Any],
    keys: Sequence[sa.ColumnElement[Any]],
    build: Callable[[Any], R],
    *,
    limit: int,
    cursor: str | None,
    types: tuple[type, ...] = (str,),
    descending: bool = False,
) -> Page[R]:
    """Return one page of a query.

    Args:
        connection: to the database.
        query: with its conditions, without order.
        keys: the columns that order the list; together unique.
        build: makes the record of a row.
        limit: number of records, 1 to 500.
        cursor: of the page, or None for the first.
        types: of the keys' values.
        descending: whether all keys descend.

    Raises:
        BadInput: the limit or the cursor is not possible.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise BadInput(f"limit: expected 1 to {MAX_PAGE}, got {limit}", reason="limit")
    if cursor is not None:
        place = sa.tuple_(*keys)
        values = sa.tuple_(*decode_cursor(cursor, types))
        query = query.where(place < values if descending else place > values)
    order = [key.desc() if descending else key.asc() for key in keys]
    rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
    items = tuple(build(row) for row in rows[:limit])
    if len(rows) <= limit:
        return Page(items)
    last = rows[limit - 1]._mapping
    return Page(items, encode_cursor([last[str(key.key)] for key in keys]))


def fetch_one(
    connection: sa.Connection, query: sa.Select[Any], build: Callable[[Any], R], kind: str, name: str
) -> R:
    """Return the record of the only row of a query.

    Raises:
        UnknownName: there is none ("unknown-name.inspection", ...).
    """
    row = connection.execute(query).first()
    if row is None:
        raise UnknownName(kind, name, ())
    return build(row)
