"""Shows on standard error that a trained network is exported, and how many images have been verified."""

from __future__ import annotations

from typing import Any, Self


class ExportProgress:
    """A line for the export, then a bar of the verified images and a last line with their number.

    On anything but a terminal, the bar is left out.

    Args:
        quiet: whether to show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        """Show that the export begins."""
        if not self.quiet:
            from rich import progress as bars
            from rich.console import Console

            console = Console(stderr=True)
            columns = bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn()
            self._bar = bars.Progress(
                *columns, console=console, transient=True, disable=not console.is_terminal
            )
            console.print("exporting", highlight=False)
            self._bar.start()
        return self

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Advance the bar.

        Args:
            stage: what is done, such as "verifying".
            done: number of finished images.
            total: number of all.
        """
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task(stage, total=total)
        self._bar.update(self._task, description=stage, completed=done, total=total)
        if done == total:
            self._bar.console.print(f"{stage} {done} of {total}", highlight=False)

    def __exit__(self, *exception: object) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
