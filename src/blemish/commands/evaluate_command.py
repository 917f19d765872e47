"""`blemish evaluate`: how a model file does on labelled images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from blemish.errors import BadInput

if TYPE_CHECKING:
    from blemish.evaluation import Report

FAILED_IN_PART = 1


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="FILE", help="The model file, or hf://user/name.", show_default=False
        ),
    ],
    data: DataOption,
    split: SplitOption = None,
    images: ImagesOption = None,
    data_format: FormatOption = None,
    map_labels: MapOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write report.json and report.html.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole report as JSON.")] = False,
    show: Annotated[
        str | None, typer.Option(metavar="ID", help="One image: truth beside prediction, drawn.")
    ] = None,
    intervals: IntervalsOption = True,
    batch_size: BatchOption = None,
    tile_size: TileOption = None,
    tile_overlap: OverlapOption = 0.25,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_megapixels: MegapixelsOption = 64,
) -> None:
    """Measure a model file on labelled images.

    Labels are matched by name.

    Images that cannot be read are listed and not scored; the exit code is then 1.

    Images that the model has learned from are found and stamped on the report.
    """
    from dataclasses import replace

    from blemish import evaluation, inference
    from blemish.imaging import LIMITS
    from blemish.inference.tiles import Tiling

    mapping = parse_map(map_labels or [])
    limits = replace(LIMITS, max_pixels=int(max_megapixels * 1e6))
    predictor = inference.load(model, backend=backend, device=device, threads=threads, limits=limits)
    if show is not None:
        _show(predictor, data, show, data_format, images, mapping, output, as_json=as_json)
        return
    with progress_bar("Looking", wanted=sys.stderr.isatty()) as progress:
        report = evaluation.evaluate(
            predictor,
            data,
            split=split,
            output=output,
            map_labels=mapping,
            batch_size=batch_size,
            progress=progress,
            format=data_format,
            images=images,
            intervals=intervals,
            seed=seed,
            pictures=output is not None,
            tiling=None if tile_size is None else Tiling(tile_size, tile_overlap),
        )
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
    else:
        print_report(report, output)
    if report.broken:
        raise typer.Exit(FAILED_IN_PART)


def parse_map(pairs: list[str]) -> dict[str, str]:
    """`DATA=MODEL` pairs as a mapping; BadInput for a pair without `=`.

    Example:
        >>> parse_map(["scratch=Kratzer", "hood="])
        {'scratch': 'Kratzer', 'hood': ''}
    """
    out = {}
    for pair in pairs:
        name, equals, target = pair.partition("=")
        if not equals or not name.strip():
            raise BadInput(f"--label-map {pair!r} is not DATA=MODEL, such as --label-map scratch=Kratzer")
        out[name.strip()] = target.strip()
    return out


@contextmanager
def progress_bar(what: str, *, wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error that is told how many of how many are done; None where nobody looks."""
    if not wanted:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_report(report: Report, output: Path | None = None) -> None:
    """The report on the terminal: stamps, the figures that count, a line a label."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from blemish.evaluation.metric_names import display_name_of, interval, leading_figures, number

    console = Console()
    name = report.model.get("name") or "model"
    split = report.data.get("split")
    where = f"{report.data.get('name')}{f', split {split}' if split else ''}"
    console.print(Text(f"{name} on {where}: {report.images} images", style="bold"))
    for stamp in report.stamps:
        style = {"leak": "bold red", "broken": "red", "tuned": "yellow"}.get(stamp.kind, "dim")
        console.print(Text(f"{stamp.kind}: {stamp.text}", style=style))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "value", "95 % interval"):
        table.add_column(column, justify="left" if not column else "right")
    for figure in (report.headline, *leading_figures(report)):
        found = report.figures[figure]
        style = "bold" if figure == report.headline else ""
        table.add_row(
            display_name_of(figure), number(found.value, figure), interval(found, figure), style=style
        )
    console.print()
    console.print(table)
    if report.label_rows:
        console.print()
        console.print(_label_table(report))
    for identity, reason in report.broken[:10]:
        console.print(Text(f"{identity}: {reason}", style="red"), soft_wrap=True)
    if len(report.broken) > 10:
        console.print(Text(f"and {len(report.broken) - 10} more that could not be read", style="red"))
    if output is not None:
        console.print()
        console.print(Text(f"report: {output / 'report.html'}"), soft_wrap=True)


def _label_table(report: Report) -> Any:
    from rich.table import Table

    from blemish.evaluation.metric_names import display_name_of, number

    columns = tuple(report.label_rows[0].figures)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("label")
    counted = "images" if report.task.is_image_level else "objects"
    thresholds = report.label_rows[0].threshold is not None
    for column in (counted, "said", *(["from score"] if thresholds else []), *map(display_name_of, columns)):
        table.add_column(column.lower() if column.istitle() else column, justify="right")
    for row in report.label_rows:
        table.add_row(
            row.title,
            str(row.support),
            str(row.said),
            *([number(row.threshold)] if thresholds else []),
            *(number(row.figures[name].value, name) for name in columns),
        )
    return table


def _show(
    predictor: Any,
    data: Path,
    name: str,
    data_format: str | None,
    images: Path | None,
    mapping: dict[str, str],
    output: Path | None,
    *,
    as_json: bool,
) -> None:
    """One image on the terminal, and drawn beside."""
    import io

    from blemish.data import open_dataset
    from blemish.evaluation.sample_report import show
    from blemish.model_file import write_atomically

    dataset = open_dataset(data, format=data_format, images=images, task=predictor.task, minimum_labels=1)
    shown = show(predictor, dataset, name, mapping)
    buffer = io.BytesIO()
    shown.picture.save(buffer, "PNG")
    path = (output or Path()) / f"{Path(shown.sample.id).stem}.shown.png"
    write_atomically(path, buffer.getvalue())
    if as_json:
        answer = {**shown.to_dict(), "drawn": path.as_posix()}
        sys.stdout.write(json.dumps(answer, indent=1) + "\n")
        return
    sys.stdout.write(
        "\n".join([shown.sample.id, *(f"  {line}" for line in shown.lines), f"  drawn: {path}"]) + "\n"
    )
