"""Options of `blemish inspections`, and how its commands open the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from blemish.inspections.store import InspectionStore

DAMAGED = 1

StoreOption = Annotated[
    Path,
    typer.Option(
        "--store",
        "-s",
        metavar="DIR",
        envvar="BLEMISH_STORE",
        help="Folder of the store.",
        show_default=False,
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="BLEMISH_DATABASE",
        help="PostgreSQL database of the store.",
        show_default="a SQLite file in the folder",
    ),
]


def require_extra() -> None:
    """Raise `MissingExtra` if the packages of the store are not installed."""
    from importlib.util import find_spec

    from blemish.errors import MissingExtra

    if find_spec("sqlalchemy") is None or find_spec("alembic") is None:
        raise MissingExtra("inspections", "blemish inspections")


def open_store(store: Path, database: str | None, *, create: bool = False) -> InspectionStore:
    """Return the opened store, a context manager.

    Args:
        store: its folder.
        database: URL of a PostgreSQL database; None for the SQLite file in the folder.
        create: whether to make it if there is none.
    """
    require_extra()
    from blemish.inspections.store import InspectionStore

    return InspectionStore.open(store, database=database, create=create)
