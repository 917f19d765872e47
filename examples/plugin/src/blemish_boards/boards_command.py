"""The command `blemish boards FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def boards(folder: Annotated[Path, typer.Argument(help="A folder with boards.txt.")]) -> None:
    """Count the boards of a list, by label.

    Example: blemish boards data/
    """
    from blemish.data import open_dataset

    dataset = open_dataset(folder, format="boards")
    for label in dataset.labels:
        count = sum(label in s.ground_truth.label_names for s in dataset if s.ground_truth is not None)
        typer.echo(f"{label}: {count}")
