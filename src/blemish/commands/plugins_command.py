"""`blemish plugins`: list the installed plug-ins."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Annotated

import typer

from blemish.commands.json_output import print_json
from blemish.registry import PluginWarning, installed_plugins


def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the plug-ins that other packages declare: kind, name, module, package, and why one failed.

    The exit code is 1 if a plug-in cannot be loaded. Set BLEMISH_NO_PLUGINS=1 to ignore all plug-ins.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)  # the list contains the same errors
        found = installed_plugins()
    if as_json:
        print_json({"plugins": [dataclasses.asdict(plugin) for plugin in found]}, indent=2)
    elif not found:
        typer.echo("no plug-ins are installed")
    else:
        rows = [("kind", "name", "target", "package")]
        rows += [(p.kind, p.name, p.target, p.distribution) for p in found]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        errors = ["", *(plugin.error for plugin in found)]
        for row, error in zip(rows, errors, strict=True):
            cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            typer.echo(f"{cells}  error: {error}" if error else cells.rstrip())
    if any(plugin.error for plugin in found):
        raise typer.Exit(1)
