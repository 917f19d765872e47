"""`blemish inspections verify`, `backup` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.commands.data_options import JsonOption
from blemish.commands.inspections_options import (
    DAMAGED,
    DatabaseOption,
    StoreOption,
    open_store,
    require_extra,
)
from blemish.commands.json_output import print_json


def verify(
    store: StoreOption,
    remove_orphans: Annotated[
        bool, typer.Option("--remove-orphans", help="Remove files without a record, older than an hour.")
    ] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hash every file again, and check the database and the audit chain; the exit code is 1 on damage.

    Example:
      blemish inspections verify --store claims/
    """
    with open_store(store, database) as opened:
        from blemish.inspections.maintenance import verify_store

        check = verify_store(opened, remove_orphans=remove_orphans)
        if as_json:
            print_json(check.to_dict(), indent=2)
        else:
            state = "intact" if check.is_intact else "DAMAGED"
            typer.echo(f"{state}: {check.files} files, {check.audit_events} events")
            for name in ("files_missing", "files_changed", "database"):
                for fault in getattr(check, name):
                    typer.echo(f"{name.replace('_', ' ')}: {fault}")
            if check.audit_fault:
                typer.echo(f"audit chain: {check.audit_fault}")
            if check.orphans:
                typer.echo(f"orphans: {check.orphans}" + (" (removed)" if check.orphans_removed else ""))
        if not check.is_intact:
            raise typer.Exit(DAMAGED)


def backup(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="New or empty folder.", show_default=False)
    ],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Copy a store while it is in use.

    Example:
      blemish inspections backup --store claims/ --output backup-monday/
    """
    with open_store(store, None) as opened:
        from blemish.inspections.maintenance import back_up

        count = back_up(opened, output)
    if as_json:
        print_json({"files": count, "path": output.as_posix()})
    else:
        typer.echo(f"{output}: {count} files")


def restore(
    backup_folder: Annotated[
        Path, typer.Argument(metavar="BACKUP", help="Folder that backup wrote.", show_default=False)
    ],
    store: StoreOption,
    as_json: JsonOption = False,
) -> None:
    """Make a new store of a backup, and verify it.

    Example:
      blemish inspections restore backup-monday/ --store claims-again/
    """
    require_extra()
    from blemish.inspections.maintenance import restore as restore_backup

    check = restore_backup(backup_folder, store)
    if as_json:
        print_json(check.to_dict(), indent=2)
    else:
        typer.echo(f"{store}: {check.files} files")
