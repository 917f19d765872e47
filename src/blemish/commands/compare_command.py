"""`blemish compare`: compare model files on the same labeled images."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.json_output import print_json
from blemish.commands.shared_options import (
    BackendOption,
    BatchOption,
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
            metavar="FILE|RUN",
            help="Model files of one task; without --data, folders of runs, or runs:/ID of MLflow.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="Labeled images to evaluate model files on: a folder, or a label file.",
            show_default="compare what runs recorded",
        ),
    ] = None,
    split: SplitOption = None,
    images: ImagesOption = None,
    data_format: FormatOption = None,
    label_map: MapOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Write comparison.json, comparison.md and comparison.svg to this folder.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole comparison as JSON.")] = False,
    intervals: IntervalsOption = True,
    batch_size: BatchOption = None,
    tile_size: TileOption = None,
    tile_overlap: OverlapOption = 0.25,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_megapixels: MegapixelsOption = 64,
) -> None:
    """Compare model files on the same labeled images: metrics, speed, size and licenses.

    Detection and segmentation models can be compared with each other, by their boxes. Without --data, compare
    trainings: their validation metrics, and the settings that differ.

    Examples:
      blemish compare runs/a/model.onnx runs/b/model.onnx --data photos/ --split test

      blemish compare a.onnx b.onnx --data photos/ --output comparison/

      blemish compare runs/a runs/b
    """
    from dataclasses import replace

    from blemish.commands.evaluate_command import parse_label_map, progress_bar
    from blemish.evaluation.comparison import compare as run
    from blemish.evaluation.comparison_files import save_comparison
    from blemish.imaging import LIMITS
    from blemish.inference.tiles import Tiling

    if data is None:
        _compare_runs(models, output, as_json=as_json)
        return
    mapping = parse_label_map(label_map or [])
    with progress_bar("Evaluating", visible=sys.stderr.isatty()) as progress:
        comparison = run(
            models,
            data,
            split=split,
            label_map=mapping,
            format=data_format,
            images=images,
            batch_size=batch_size,
            intervals=intervals,
            backend=backend,
            device=device,
            threads=threads,
            tiling=None if tile_size is None else Tiling(tile_size, tile_overlap),
            limits=replace(LIMITS, max_pixels=int(max_megapixels * 1e6)),
            progress=None if progress is None else lambda _, finished, total: progress(finished, total),
        )
    if output is not None:
        save_comparison(comparison, output)
    if as_json:
        print_json(comparison.to_dict(), indent=1)
    else:
        print_comparison(comparison)
    if any(model.report.unreadable for model in comparison.models):
        raise typer.Exit(FAILED_IN_PART)


def _compare_runs(runs: list[str], output: Path | None, *, as_json: bool) -> None:
    """Print what trainings recorded."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from blemish.errors import BadInput
    from blemish.evaluation.run_comparison import compare_runs

    if output is not None:
        raise BadInput("--output belongs to a comparison on images. Add --data", reason="option-without-data")
    comparison = compare_runs(runs)
    if as_json:
        print_json(comparison.to_dict(), indent=1)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for run in comparison.runs:
        table.add_column(Text(run.name), justify="right", overflow="fold")
    for title, cells in comparison.to_rows():
        table.add_row(Text(title), *map(Text, cells))
    Console().print(table)


def print_comparison(comparison: Comparison) -> None:
    """Print a comparison on the terminal, one column per model, the best first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from blemish.commands.evaluate_command import warning_line
    from blemish.evaluation.metric_names import format_interval, format_value, metric_display_name
    from blemish.evaluation.report import MetricValue

    console = Console()
    models = comparison.models
    split = comparison.data.get("split")
    where = f"{comparison.data.get('name')}{f', split {split}' if split else ''}"
    console.print(Text(f"{where}: {comparison.images} images", style="bold"))
    for model in models:
        for warning in model.report.warnings:
            console.print(Text(f"{model.name}: ").append_text(warning_line(warning)))
    # One column per model: a comparison has few models, and a data set may have many labels.
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for model in models:
        table.add_column(Text(model.name), justify="right", overflow="fold")

    def add(title: str, cells: Iterable[str], style: str = "") -> None:
        table.add_row(Text(title), *map(Text, cells), style=style)

    for name in models[0].metrics:
        is_primary = name == comparison.primary_metric
        values = [format_value(model.metrics[name].value, name) for model in models]
        add(metric_display_name(name), values, "bold" if is_primary else "")
        intervals = [format_interval(model.metrics[name], name) for model in models]
        if is_primary and any(intervals):
            add("  95 % interval", intervals)
    for label in comparison.label_names:
        values = [format_value(model.labels.get(label, MetricValue(None)).value) for model in models]
        add(label, values, "dim")
    add("ms per image", (f"{model.milliseconds:.1f}" for model in models))
    add("MB", (f"{model.bytes / 1e6:.1f}" for model in models))
    licenses = zip(*(model.short_licenses for model in models), strict=True)
    for title, stated in zip(("code license", "weights license"), licenses, strict=True):
        add(title, stated)
    console.print()
    console.print(table)
