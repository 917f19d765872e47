"""`blemish compare`: model files side by side on the same images."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.shared_options import (
    BackendOption,
    BatchOption,
    DataOption,
    DeviceOption,
    FormatOption,
    ImagesOption,
    IntervalsOption,
    MapOption,
    MegapixelsOption,
    OverlapOption,
    SplitOption,
    ThreadsOption,
    TileOption,
)

if TYPE_CHECKING:
    from blemish.evaluation.comparison import Comparison

FAILED_IN_PART = 1


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Model files, or hf://user/name, of one task.", show_default=False
        ),
    ],
    data: DataOption,
    split: SplitOption = None,
    images: ImagesOption = None,
    data_format: FormatOption = None,
    map_labels: MapOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write comparison.json, .md and .svg."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON.")] = False,
    intervals: IntervalsOption = True,
    batch_size: BatchOption = None,
    tile_size: TileOption = None,
    tile_overlap: OverlapOption = 0.25,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_megapixels: MegapixelsOption = 64,
) -> None:
    """Compare model files on the same images: how good, how fast, how large, under which licence.

    Detectors with and without masks may stand side by side; they are then compared by their boxes.
    """
    from dataclasses import replace

    from blemish.commands.evaluate_command import parse_map, progress_bar
    from blemish.evaluation.comparison import compare as run
    from blemish.imaging import LIMITS
    from blemish.inference.tiles import Tiling

    mapping = parse_map(map_labels or [])
    with progress_bar("Looking", wanted=sys.stderr.isatty()) as progress:
        comparison = run(
            models,
            data,
            split=split,
            map_labels=mapping,
            format=data_format,
            images=images,
            batch_size=batch_size,
            intervals=intervals,
            backend=backend,
            device=device,
            threads=threads,
            tiling=None if tile_size is None else Tiling(tile_size, tile_overlap),
            limits=replace(LIMITS, max_pixels=int(max_megapixels * 1e6)),
            progress=None if progress is None else lambda _, done, total: progress(done, total),
        )
    if output is not None:
        comparison.write(output)
    if as_json:
        sys.stdout.write(json.dumps(comparison.to_dict(), indent=1, allow_nan=False) + "\n")
    else:
        print_comparison(comparison)
    if any(contender.report.broken for contender in comparison.contenders):
        raise typer.Exit(FAILED_IN_PART)


def print_comparison(comparison: Comparison) -> None:
    """The table on the terminal, the best first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from blemish.evaluation.metric_names import display_name_of, interval, number
    from blemish.evaluation.report import MetricValue

    console = Console()
    split = comparison.data.get("split")
    where = f"{comparison.data.get('name')}{f', split {split}' if split else ''}"
    console.print(Text(f"{where}: {comparison.images} images", style="bold"))
    for contender in comparison.contenders:
        for stamp in contender.report.stamps:
            style = {"leak": "bold red", "broken": "red", "tuned": "yellow"}.get(stamp.kind, "dim")
            console.print(Text(f"{contender.name}: {stamp.kind}: {stamp.text}", style=style))
    names = tuple(comparison.contenders[0].figures)
    # A column a model, since people compare few models and data have many labels.
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for c in comparison.contenders:
        table.add_column(Text(c.name), justify="right", overflow="fold")

    def add(title: str, cells: Iterable[str], style: str = "") -> None:
        table.add_row(Text(title), *map(Text, cells), style=style)

    headline = [c.figures[comparison.headline] for c in comparison.contenders]
    for name in names:
        cells = [number(c.figures[name].value) for c in comparison.contenders]
        add(display_name_of(name), cells, "bold" if name == comparison.headline else "")
        if name == comparison.headline and any(map(interval, headline)):
            add("  95 % interval", map(interval, headline))
    for name in comparison.label_names:
        add(name, (number(c.labels.get(name, MetricValue(None)).value) for c in comparison.contenders), "dim")
    add("ms an image", (f"{c.milliseconds:.1f}" for c in comparison.contenders))
    add("MB", (f"{c.bytes / 1e6:.1f}" for c in comparison.contenders))
    licences = zip(*(c.short_licences for c in comparison.contenders), strict=True)
    for title, stated in zip(("code's licence", "weights' licence"), licences, strict=True):
        add(title, stated)
    console.print()
    console.print(table)
