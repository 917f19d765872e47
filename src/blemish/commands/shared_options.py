"""Options that several commands take, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path, typer.Option("--data", "-d", metavar="PATH", help="Labelled images.", show_default=False)
]
SplitOption = Annotated[
    str | None,
    typer.Option(help="Which images; [bold]all[/bold] for every one.", show_default="test, val or all"),
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="Of the data, where it should not be recognised.")
]
ImagesOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder of images, where not beside the labels.")
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="DATA=MODEL",
        help="A label that bears another name in the model; DATA= leaves it out.",
    ),
]
IntervalsOption = Annotated[bool, typer.Option(help="95 % intervals by bootstrap.")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="Images that go through the network together.")]
TileOption = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", min=16, help="Look at large images in tiles of this side."),
]
OverlapOption = Annotated[
    float, typer.Option(min=0, max=0.9, help="Of neighbouring tiles, as a share of their side.")
]
MegapixelsOption = Annotated[
    float, typer.Option(min=0.001, help="Refuse larger images before decoding them.")
]
BackendOption = Annotated[str, typer.Option(help="auto, onnxruntime or openvino.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="For each network; every core where not given.")
]
