"""Progress within a stage: one line that is rewritten on a terminal."""

from __future__ import annotations

import sys

import typer


def show_progress(stage: str, done: int, total: int) -> None:
    """Rewrite one line of standard error on a terminal; elsewhere, print the last line only.

    Args:
        stage: what is done.
        done: number of finished images.
        total: number of all.
    """
    if sys.stderr.isatty():
        typer.echo(f"\r{stage} {done} of {total}", err=True, nl=done == total)
    elif done == total:
        typer.echo(f"{stage} {done} of {total}", err=True)
