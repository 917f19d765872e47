"""What one cell of a table contains: a list of labels, JSON, several words, or an uncertain value."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from typing import Any

UNCERTAIN_CELLS = frozenset(
    {"-1", "-1.0", "nan", "na", "n/a", "none", "null", "?", "u", "uncertain", "unknown", "unsure"}
)
UNCERTAIN = ("error", "negative", "positive", "drop")
MAX_PARSED = 1_000_000  # characters of a cell


def parse_cell(cell: str) -> Any:
    """Return the list or object that a cell contains as JSON or as Python writes it, or None.

    Example:
        >>> parse_cell("['crack', 'inactive']"), parse_cell("crack")
        (['crack', 'inactive'], None)
    """
    if not (cell[:1] + cell[-1:] in ("[]", "{}") and len(cell) <= MAX_PARSED):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        return value if isinstance(value, list | dict) else None
    return None


def looks_structured(cell: str) -> bool:
    """Return whether a cell is a list or an object, readable or not."""
    return cell[:1] + cell[-1:] in ("[]", "{}")


def is_list_of_names(cell: str) -> bool:
    """Return whether a cell is a list of texts."""
    value = parse_cell(cell)
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def names_in(cell: str, *, by_space: bool = False) -> list[str]:
    """Return the labels of one cell: `crack|inactive`, `crack; inactive`, `crack, inactive` or a list.

    Args:
        cell: the cell.
        by_space: whether spaces separate labels too.
    """
    if is_list_of_names(cell):
        return [name for part in parse_cell(cell) if (name := part.strip())]
    return [n for n in (part.strip() for part in re.split(r"[|;,\s]" if by_space else r"[|;,]", cell)) if n]


def are_separated_by_spaces(cells: Iterable[str], *, certain: bool) -> bool:
    """Return whether the words of a cell are labels of their own, as in `scratch dent` next to `scratch`.

    Args:
        cells: of one column.
        certain: whether every word of a cell with several must be alone in another cell, not only one.
    """
    distinct = set(cells)
    alone = {cell for cell in distinct if " " not in cell}
    several = [cell.split() for cell in distinct if " " in cell]
    if not several or any(re.search(r"[|;,\[\]{}]", cell) for cell in distinct):
        return False
    together = all if certain else any
    return all(together(word in alone for word in words) for words in several)
