"""`blemish evaluate`: measure how well a model file predicts labeled images."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.json_output import print_json
from blemish.commands.shared_options import (
    BackendOption,
    BatchOption,
    CostFalsePositiveOption,
    CostMissOption,
    CostReviewOption,
    CrowdOption,
    DataOption,
    DeviceOption,
    FormatOption,
    GoodLabelOption,
    ImagesOption,
    IntervalsOption,
    MapOption,
    MegapixelsOption,
    OverlapOption,
    RiskOption,
    SplitOption,
    ThreadsOption,
    TileOption,
    WhiteLevelOption,
)
from blemish.errors import BadInput

if TYPE_CHECKING:
    from rich.text import Text

    from blemish.evaluation import Report
    from blemish.evaluation.report import ReportWarning

FAILED_IN_PART = 1
MAX_UNREADABLE_LINES = 10
WARNING_STYLES = {
    "data-leakage": "bold red",
    "unreadable": "red",
    "failed-metric": "red",
    "optimistic-bias": "yellow",
}


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="FILE", help="Model file, or hf://user/name.", show_default=False
        ),
    ],
    data: DataOption,
    split: SplitOption = None,
    images: ImagesOption = None,
    data_format: FormatOption = None,
    crowd: CrowdOption = "ignore",
    label_map: MapOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Write report.json and report.html to this folder.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Evaluate only this image, given by its id or file name: print the ground truth and the "
            "prediction, and draw both.",
        ),
    ] = None,
    intervals: IntervalsOption = True,
    risk: RiskOption = None,
    cost_miss: CostMissOption = None,
    cost_false_positive: CostFalsePositiveOption = None,
    cost_review: CostReviewOption = None,
    good_label: GoodLabelOption = None,
    batch_size: BatchOption = None,
    tile_size: TileOption = None,
    tile_overlap: OverlapOption = 0.25,
    seed: Annotated[int, typer.Option(help="Random seed of the bootstrap.")] = 0,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_megapixels: MegapixelsOption = 64,
    white_level: WhiteLevelOption = None,
) -> None:
    """Measure how well a model file predicts labeled images.

    The labels of the data set and of the model are matched by name. Images that cannot be read are listed
    and not evaluated; the exit code is then 1. The report warns of images that the model was trained on.

    Examples:
      blemish evaluate --model runs/cars/model.onnx --data photos/ --split test --output report/

      blemish evaluate --model model.onnx --data photos/ --label-map scratch=Kratzer --json

      blemish evaluate --model model.onnx --data photos/ --sample car17.jpg --output drawn/
    """
    from dataclasses import replace

    from blemish import evaluation, inference
    from blemish.abstention import make_policy
    from blemish.imaging import LIMITS
    from blemish.inference.tiles import Tiling

    policy = make_policy(
        risk, miss=cost_miss, false_positive=cost_false_positive, review=cost_review, good_label=good_label
    )
    mapping = parse_label_map(label_map or [])
    limits = replace(LIMITS, max_pixels=int(max_megapixels * 1e6))
    predictor = inference.load(
        model, backend=backend, device=device, threads=threads, limits=limits, white_level=white_level
    )
    if sample is not None:
        _evaluate_sample(predictor, data, sample, data_format, images, mapping, output, as_json=as_json)
        return
    with progress_bar("Evaluating", visible=sys.stderr.isatty()) as progress:
        report = evaluation.evaluate(
            predictor,
            data,
            split=split,
            output=output,
            label_map=mapping,
            batch_size=batch_size,
            progress=progress,
            format=data_format,
            images=images,
            crowd=crowd,
            intervals=intervals,
            seed=seed,
            thumbnails=output is not None,
            tiling=None if tile_size is None else Tiling(tile_size, tile_overlap),
            policy=policy,
        )
    if as_json:
        print_json(report.to_dict(), indent=1)
    else:
        print_report(report, output)
    if report.unreadable:
        raise typer.Exit(FAILED_IN_PART)


def parse_label_map(pairs: list[str]) -> dict[str, str]:
    """Return `DATA=MODEL` pairs as a mapping.

    Raises:
        BadInput: a pair has no `=` or no name before it.

    Example:
        >>> parse_label_map(["scratch=Kratzer", "hood="])
        {'scratch': 'Kratzer', 'hood': ''}
    """
    out = {}
    for pair in pairs:
        name, equals, target = pair.partition("=")
        if not equals or not name.strip():
            raise BadInput(
                f"--label-map: expected DATA=MODEL, such as scratch=Kratzer, got {pair!r}", reason="label-map"
            )
        out[name.strip()] = target.strip()
    return out


@contextmanager
def progress_bar(task: str, *, visible: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on standard error.

    Args:
        task: the text before the bar.
        visible: whether there is a bar at all.

    Yields:
        A function that takes the number of finished items and the number of all items; None without a bar.
    """
    if not visible:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        identity = bar.add_task(task, total=None)
        yield lambda finished, total: bar.update(identity, completed=finished, total=total)


def warning_line(warning: ReportWarning) -> Text:
    """Return a report's warning as a line for the terminal."""
    from rich.text import Text

    return Text(f"{warning.kind}: {warning.text}", style=WARNING_STYLES.get(warning.kind, "dim"))


def print_report(report: Report, output: Path | None = None) -> None:
    """Print a report on the terminal: warnings, the leading metrics and one line per label.

    Args:
        report: the report.
        output: the folder of its files, which the last line names; None if there are no files.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from blemish.evaluation.metric_names import (
        format_interval,
        format_value,
        leading_metrics,
        metric_display_name,
    )
    from blemish.metrics.metric_table import custom_metrics

    console = Console()
    name = report.model.get("name") or "model"
    split = report.data.get("split")
    where = f"{report.data.get('name')}{f', split {split}' if split else ''}"
    console.print(Text(f"{name} on {where}: {report.images} images", style="bold"))
    for warning in report.warnings:
        console.print(warning_line(warning))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "value", "95 % interval"):
        table.add_column(column, justify="left" if not column else "right")
    custom = [spec.name for spec in custom_metrics(report.task)]
    for name in dict.fromkeys((report.primary_metric, *leading_metrics(report), *custom)):
        metric = report.metrics[name]
        table.add_row(
            metric_display_name(name),
            format_value(metric.value, name),
            format_interval(metric, name),
            style="bold" if name == report.primary_metric else "",
        )
    console.print()
    console.print(table)
    if report.label_rows:
        console.print()
        console.print(_label_table(report))
    if report.abstention:
        console.print()
        for line in _abstention_lines(report.abstention):
            console.print(Text(line), soft_wrap=True)
    for identity, reason in report.unreadable[:MAX_UNREADABLE_LINES]:
        console.print(Text(f"{identity}: {reason}", style="red"), soft_wrap=True)
    more = len(report.unreadable) - MAX_UNREADABLE_LINES
    if more > 0:
        console.print(Text(f"and {more} more images that cannot be read", style="red"))
    if output is not None:
        console.print()
        console.print(Text(f"report: {output / 'report.html'}"), soft_wrap=True)


def _abstention_lines(section: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is decided at the risk or costs, and the coverage of each label and side."""
    rule = f"risk {section['risk']:g}" if section["risk"] is not None else "the lowest expected cost"
    measures = [
        f"{name} {section[key]:.3f}"
        for key, name in (("error", "error of the decided"), ("macro_f1", "macro F1 of the decided"))
        if section[key] is not None
    ]
    yield f"at {rule}: {section['decided']:.1%} of images decided, {', '.join(measures) or 'none'}"
    for side in section["sides"]:
        if side["coverage"] is None:
            continue
        yield (
            f"  {side['label']} {side['side']}: coverage {side['coverage']:.3f} [{side['low']:.3f}, "
            f"{side['high']:.3f}] on {side['images']} images; {side['calibration_images']} calibration "
            f"images, finite-sample interval {side['band_low']:.3f} to {side['band_high']:.3f}"
        )


def _label_table(report: Report) -> Any:
    from rich.table import Table

    from blemish.evaluation.metric_names import format_value, metric_display_name

    names = tuple(report.label_rows[0].metrics)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("label")
    thresholds = ["threshold"] if report.label_rows[0].threshold is not None else []
    columns = [report.task.fields.counted, "predicted", *thresholds, *map(metric_display_name, names)]
    for column in columns:
        table.add_column(column.lower() if column.istitle() else column, justify="right")
    for row in report.label_rows:
        table.add_row(
            row.display_name,
            str(row.support),
            str(row.predicted),
            *([format_value(row.threshold)] if thresholds else []),
            *(format_value(row.metrics[name].value, name) for name in names),
        )
    return table


def _evaluate_sample(
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
    """Print the comparison of one image, and write the drawing of its ground truth and prediction."""
    import io

    from blemish.data import open_dataset
    from blemish.evaluation.sample_report import report_sample
    from blemish.model_file import write_atomically

    dataset = open_dataset(data, format=data_format, images=images, task=predictor.task, minimum_labels=1)
    report = report_sample(predictor, dataset, name, mapping)
    buffer = io.BytesIO()
    report.drawing.save(buffer, "PNG")
    path = (output or Path()) / f"{Path(report.sample.id).stem}.compared.png"
    write_atomically(path, buffer.getvalue())
    if as_json:
        print_json({**report.to_dict(), "drawn": path.as_posix()}, indent=1)
        return
    lines = [report.sample.id, *(f"  {line}" for line in report.lines), f"  drawn: {path}"]
    sys.stdout.write("\n".join(lines) + "\n")
