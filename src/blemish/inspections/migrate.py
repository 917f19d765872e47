"""Bring the tables of a database up to date with Alembic."""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from blemish.errors import BadStore

_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(connection: sa.Connection) -> None:
    """Create the tables, or change those of an earlier version; do nothing if they are up to date.

    Args:
        connection: inside a transaction, to which the migration belongs.

    Raises:
        BadStore: a later version of Blemish wrote the database ("bad-store.later-version").
    """
    config = Config()
    config.set_main_option("script_location", _SCRIPTS.as_posix().replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == scripts.get_current_head():
        return
    if current is not None and current not in {revision.revision for revision in scripts.walk_revisions()}:
        raise BadStore(
            f"the database has revision {current}, which is of a later version. Update Blemish.",
            reason="later-version",
        )
    command.upgrade(config, "head")
