"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path, typer.Option("--data", "-d", metavar="PATH", help="Labeled images.", show_default=False)
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        help="Split of the data to use; [bold]all[/bold] for every image.",
        show_default="test if there is one, else val, else all",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="Format of the data.", show_default="detected"),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="DIR", help="Folder of the images.", show_default="the folder of the labels"
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label-map",
        metavar="DATA=MODEL",
        help="The model's name of a label in the data, such as scratch=Kratzer; scratch= ignores the label. "
        "Repeatable.",
    ),
]
IntervalsOption = Annotated[bool, typer.Option(help="Compute 95 % confidence intervals by bootstrap.")]
BatchOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, help="Images per forward pass.", show_default="1 on a CPU, 16 on a GPU"
    ),
]
TileOption = Annotated[
    int | None,
    typer.Option(
        "--tile-size",
        metavar="PIXELS",
        min=16,
        help="Run inference on tiles of this size, for images much larger than the network's input.",
        show_default="no tiles",
    ),
]
OverlapOption = Annotated[
    float,
    typer.Option(
        "--tile-overlap", min=0, max=0.9, help="Overlap of neighboring tiles, as a fraction of their size."
    ),
]
MegapixelsOption = Annotated[
    float,
    typer.Option(
        "--max-megapixels", min=0.001, help="Maximum size of an image; larger ones are refused undecoded."
    ),
]
UncertainOption = Annotated[
    str,
    typer.Option(
        metavar="ACTION",
        help="For tables: how cells such as -1 and nan in columns of 0 and 1 are read: error, negative, "
        "positive, or drop the line.",
    ),
]
CrowdOption = Annotated[
    str,
    typer.Option(
        metavar="ACTION",
        help="How objects that are marked as crowd are read: ignore, as regions that are neither learned nor "
        "counted, or objects.",
    ),
]
WhiteLevelOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        metavar="VALUE",
        help="Sample value of white in 16-bit images, such as 4095 for 12 bits.",
        show_default="that of the model file, or what the image states",
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(
        help="Runtime of the network: auto, onnxruntime or openvino. auto is the backend with which the "
        "model file was certified, if installed."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="Device of the network: auto, cpu, cuda or cuda:N.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of each network.", show_default="all available cores")
]
