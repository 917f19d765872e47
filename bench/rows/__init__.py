"""The rows of the table of speed: every module of this package declares a tuple `ROWS`."""

from __future__ import annotations

import importlib
import pkgutil

from bench.row import Row


def all_rows() -> dict[str, Row]:
    """Return every row by its name, in the order of modules.

    Raises:
        ValueError: two rows have one name.
    """
    rows: dict[str, Row] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        for row in importlib.import_module(f"{__name__}.{module}").ROWS:
            if row.name in rows:
                raise ValueError(f"two rows are named {row.name}")
            rows[row.name] = row
    return rows
