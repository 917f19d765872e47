"""Alembic's entry: run the migrations on the connection of the store."""

from __future__ import annotations

from alembic import context

from blemish.inspections.tables import metadata

if config := getattr(context, "config", None):  # set while Alembic runs this file
    context.configure(connection=config.attributes["connection"], target_metadata=metadata)
    context.run_migrations()
