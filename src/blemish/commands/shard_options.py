"""Options of `blemish predict --output-shards`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class ShardFileFormat(StrEnum):
    """The format of the shards: JSON Lines, or Parquet."""

    JSONL = "jsonl"
    PARQUET = "parquet"


class EngineName(StrEnum):
    """What predicts into shards: this process, or a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


OutputShardsOption = Annotated[
    str | None,
    typer.Option(
        "--output-shards",
        metavar="DIR",
        help="Write the rows of --json into shard files in this folder, for archives of any size: images, "
        "folders, tar files, and URLs such as s3://BUCKET/FOLDER/.",
        show_default="no shards",
    ),
]
ShardsOption = Annotated[
    int | None,
    typer.Option(
        "--shards",
        min=1,
        metavar="N",
        help="Number of shards. An interrupted run loses at most the work of one.",
        show_default="one per 1,000 images or one per tar file, at most 1,000",
    ),
]
ShardFormatOption = Annotated[
    ShardFileFormat,
    typer.Option("--shard-format", help="Format of shards: JSON Lines, or Parquet (extra parquet)."),
]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine",
        help="What predicts into shards: this process, or the Ray cluster of RAY_ADDRESS, else one of this "
        "machine (extra ray).",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Number of workers of --engine ray, each with the processors of --threads.",
        show_default="one per processor of the cluster",
    ),
]
