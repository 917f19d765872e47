"""Options that several subcommands of `blemish data` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataArgument = Annotated[
    Path,
    typer.Argument(metavar="DATA", help="Labeled images: a folder, or a label file.", show_default=False),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        metavar="TASK",
        help="Task to read the data set for, such as detection, if it allows several.",
        show_default="by its annotations",
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="ROLE=NAME",
        help="For tables: the column of a role (path, label, group, split, x, y, w, h, x1, ...), by name or"
        " position from 0. Repeatable.",
    ),
]
BoxOrderOption = Annotated[
    str | None,
    typer.Option(
        metavar="ORDER", help="For tables whose header does not name the box columns: xywh, xyhw or xyxy."
    ),
]
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Folder to write to; it must be new or empty.",
        show_default=False,
    ),
]
OutputFormatOption = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="FORMAT", help="Format to write, such as coco or yolo.", show_default="that of DATA"
    ),
]
LinkOption = Annotated[bool, typer.Option("--link", help="Make hard links to the images instead of copies.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Random seed.")]
