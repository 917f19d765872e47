"""Progress within a stage: one line that is rewritten on a terminal."""

from __future__ import annotations

import sys
import time

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


class TimedProgress:
    """Progress of several stages, each on a line with the estimated time that is left.

    A terminal gets every step, other outputs the last step of each stage.
    """

    def __init__(self) -> None:
        self._stage, self._started = "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of a stage are finished."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started = stage, now
        left = (now - self._started) / max(done - 1, 1) * (total - done)
        text = f"{stage} {done} of {total}" + (f", about {left:.0f} s left" if 1 < done < total else "")
        if sys.stderr.isatty():
            typer.echo(f"\r{text:<70}", err=True, nl=done == total)
        elif done == total:
            typer.echo(text, err=True)
