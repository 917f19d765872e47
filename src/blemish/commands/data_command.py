"""`blemish data`: look at labelled images, and write them anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.shared_options import FormatOption, ImagesOption
from blemish.errors import BadInput

if TYPE_CHECKING:
    from blemish.data.findings import Finding, Findings
    from blemish.data.statistics import Statistics
    from blemish.data.write_dataset import WrittenDataset
    from blemish.structures import Dataset

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

FOUND_ERRORS = 1
NOTHING_READ = 2
SHOWN_OF_A_KIND = 5
PREVIEW_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

Source = Annotated[
    Path, typer.Argument(metavar="PATH", help="A folder, or a file of labels.", show_default=False)
]
TaskOption = Annotated[
    str | None, typer.Option(help="What the data shall serve, where they can serve several.")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="ROLE=NAME", help="For tables: which column is the path, label, x, y, w, h, ..."
    ),
]
OrderOption = Annotated[
    str | None, typer.Option(help="For tables whose header does not say it: xywh, xyhw or xyxy.")
]
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="DIR", help="A folder that is not there yet, or empty.", show_default=False
    ),
]
LinkOption = Annotated[bool, typer.Option("--link", help="Hard links to the images instead of copies.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]
FractionsOption = Annotated[
    str, typer.Option(metavar="SPLIT=SHARE,...", help="The share of each split; they add up to 1.")
]


@app.command()
def check(
    path: Source,
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: OrderOption = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Headers only: no copies, no damage behind the header.")
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Follow the codes of every JPEG: damage that opens without a word."),
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write a cleaned copy to --output; never in place.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where the copy goes.")
    ] = None,
    link: LinkOption = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Every finding, not the first few of a kind.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong with a data set: broken files, labels that cannot be right, copies, leaks.

    The exit code is 1 where there are errors, and 2 where nothing could be read at all.
    """
    if output is not None and not fix:
        raise BadInput("--output says where --fix writes to; add --fix, or take it out")
    asked: dict[str, Any] = {
        "format": data_format,
        "images": images,
        "task": task,
        "columns": _columns(column),
        "box_order": box_order,
        "duplicates": not fast,
        "thorough": thorough,
    }
    if fix:
        if output is None:
            raise BadInput("--fix writes a cleaned copy; say where with --output DIR")
        from blemish.data.clean import clean

        cleaned = clean(path, output, link=link, **asked)
        if as_json:
            typer.echo(json.dumps(cleaned.to_dict(), indent=2))
        else:
            _print_findings(cleaned.found, everything=everything)
            for code, ids in cleaned.dropped.items():
                typer.echo(f"left out for {code}: {len(ids)}")
            _print_written(cleaned.written)
        raise typer.Exit(FOUND_ERRORS if cleaned.left.errors else 0)
    from blemish.data import audit

    found = audit.check(path, **asked)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _print_findings(found, everything=everything)
    if found.of("unreadable-set"):
        raise typer.Exit(NOTHING_READ)
    raise typer.Exit(FOUND_ERRORS if found.errors else 0)


@app.command()
def stats(
    path: Source,
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: OrderOption = None,
    pixels: Annotated[bool, typer.Option(help="Decode every image for mean and standard deviation.")] = True,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page that stands on its own.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count what a data set holds: labels, sizes, objects, what stands together, colours."""
    from blemish.data.statistics import statistics

    dataset = _open(path, data_format, images, task, column, box_order)
    found = statistics(dataset, pixels=pixels)
    if html is not None:
        html.write_text(found.to_html(), "utf-8")
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _print_statistics(found)


@app.command()
def preview(
    path: Source,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The picture to write.")
    ] = Path("preview.png"),
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: OrderOption = None,
    split: Annotated[str | None, typer.Option(help="Of one split only.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 16,
    columns: Annotated[int, typer.Option(min=1, help="How many in a row.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the lot that chooses them.")] = 0,
) -> None:
    """Draw a grid of images with their labels."""
    from blemish.data.preview import preview as draw_grid

    if output.suffix.casefold() not in PREVIEW_SUFFIXES:  # before the images are drawn
        raise BadInput(f"{output}: a picture is written as {', '.join(PREVIEW_SUFFIXES)}; name it so")
    dataset = _open(path, data_format, images, task, column, box_order)
    dataset = dataset.of_split(split) if split else dataset
    draw_grid(dataset, count=count, columns=columns, seed=seed).save(output)
    typer.echo(f"{output}")


@app.command()
def convert(
    path: Source,
    to: Annotated[str, typer.Option(help="folders, csv, coco, voc or yolo.", show_default=False)],
    output: OutputOption,
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: OrderOption = None,
    missing: Annotated[str, typer.Option(help="Images that are not there: error, drop or keep.")] = "error",
    link: LinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a data set in another format, and name what that format cannot hold."""
    from blemish.data.write_dataset import check_output, write_dataset

    check_output(output, (path, images))
    dataset = _open(path, data_format, images, task, column, box_order, missing)
    _report(write_dataset(dataset, output, to, link=link), as_json=as_json)


@app.command()
def split(
    path: Source,
    output: OutputOption,
    fractions: FractionsOption = "train=0.8,val=0.2",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same splits.")] = 0,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            help="column:NAME, pattern:REGEX or near-duplicates; what belongs together stays together."
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Format of the copy; that of the data where not given.")
    ] = None,
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: OrderOption = None,
    link: LinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Divide a data set into train, val and test, evenly in every label, and write it."""
    from blemish.data.split import split_dataset
    from blemish.data.write_dataset import check_output, format_to_write, write_dataset

    check_output(output, (path, images))
    shares = _fractions(fractions)
    dataset = _open(path, data_format, images, task, column, box_order)
    divided = split_dataset(dataset, fractions=shares, seed=seed, group_by=group_by)
    typer.echo(divided.notes[-1], err=True)
    _report(write_dataset(divided, output, to or format_to_write(dataset), link=link), as_json=as_json)


@app.command()
def merge(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Two data sets or more.", show_default=False)
    ],
    output: OutputOption,
    label_map: Annotated[
        Path | None,
        typer.Option("--map", metavar="FILE", help="YAML with lines such as 'scratches: scratch'."),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Format of the whole; that of the first where not given.")
    ] = None,
    task: TaskOption = None,
    link: LinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make one data set of several, with labels matched by name."""
    from blemish.data.merge import merge_datasets, read_map
    from blemish.data.write_dataset import check_output, format_to_write, write_dataset

    check_output(output, paths)
    mapping = read_map(label_map) if label_map is not None else {}
    merged = merge_datasets([_open(p, None, None, task, None, None) for p in paths], mapping)
    typer.echo(f"note: {merged.notes[-1]}", err=True)
    _report(write_dataset(merged, output, to or format_to_write(merged), link=link), as_json=as_json)


@app.command()
def synthesize(
    kind: Annotated[str, typer.Argument(help="cells, panels or vehicles.", show_default=False)],
    output: OutputOption,
    task: TaskOption = None,
    to: Annotated[str | None, typer.Option("--format", help="Any that can hold the task.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same.")] = 0,
    size: Annotated[int, typer.Option(help="Height and width, pixels.")] = 128,
    bits: Annotated[int, typer.Option(help="8, or 16 for cells.")] = 8,
    fractions: Annotated[
        str | None,
        typer.Option(metavar="SPLIT=SHARE,...", help="The share of each split; none where not given."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a believable data set from a seed."""
    from blemish.data.synthetic.generate import synthesize as draw_set

    shares = _fractions(fractions) if fractions else None
    written = draw_set(
        kind, output, task=task, format=to, count=count, seed=seed, size=size, bits=bits, fractions=shares
    )
    _report(written, as_json=as_json)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="voc2007 or voc2012.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to unpack into.")
    ] = Path("data"),
) -> None:
    """Download a public data set; a download that was broken off goes on where it stopped."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from blemish.data.download import fetch as download

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
        rows: dict[str, Any] = {}

        def told(file: str, there: int, whole: int) -> None:
            if file not in rows:
                rows[file] = bar.add_task(file)
            bar.update(rows[file], completed=there, total=whole)

        folder = download(name, output, progress=told)
    typer.echo(f"{folder}")


def _open(
    path: Path,
    data_format: str | None,
    images: Path | None,
    task: str | None,
    column: list[str] | None,
    box_order: str | None,
    missing: str = "error",
) -> Dataset:
    from blemish.data import open_dataset

    dataset = open_dataset(
        path,
        format=data_format,
        images=images,
        task=task,
        columns=_columns(column),
        box_order=box_order,
        missing=missing,
        minimum_labels=1,
    )
    for note in dataset.notes:
        typer.echo(f"note: {note}", err=True)
    return dataset


def _columns(given: list[str] | None) -> dict[str, str | int]:
    """`label=shape` and `path=0` as the readers take them."""
    out: dict[str, str | int] = {}
    for entry in given or ():
        role, sign, name = entry.partition("=")
        if not sign or not name:
            raise BadInput(f"--column {entry!r} is not ROLE=NAME; write label=shape or path=0")
        out[role] = int(name) if name.isdecimal() else name
    return out


def _fractions(given: str) -> dict[str, float]:
    out = {}
    for entry in given.split(","):
        name, _, share = entry.partition("=")
        try:
            out[name.strip()] = float(share)
        except ValueError:
            raise BadInput(f"{given!r} is not SPLIT=SHARE,...; write train=0.8,val=0.2") from None
    return out


def _report(written: WrittenDataset, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(written.to_dict(), indent=2))
    else:
        _print_written(written)


def _print_written(written: WrittenDataset) -> None:
    typer.echo(f"{written.images} images as {written.format} in {written.root}")
    for loss in written.losses:
        typer.echo(f"not kept: {loss.sentence()}")
    if written.damaged:
        from blemish.data.write_context import some_of

        typer.echo(
            f"warning: {len(written.damaged)} images are broken and were copied as they are:"
            f" {some_of(written.damaged)}; blemish data check says what is wrong with each",
            err=True,
        )


def _print_findings(found: Findings, *, everything: bool) -> None:
    for sentence in found.notes:
        typer.echo(f"note: {sentence}", err=True)
    by_code: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        by_code.setdefault((str(finding.severity), finding.code), []).append(finding)
    for (severity, code), kind in by_code.items():
        typer.secho(f"{severity}: {code} ({len(kind)})", fg=_colour(severity), bold=True)
        shown = kind if everything else kind[:SHOWN_OF_A_KIND]
        for finding in shown:
            typer.echo(f"  {finding.sentence()}")
        if len(kind) > len(shown):
            typer.echo(f"  and {len(kind) - len(shown)} more; --all shows them")
    if not found.findings:
        typer.echo(f"nothing is wrong with {found.images} images")
    else:
        counted = ", ".join(
            f"{sum(f.severity == s for f in found)} {s}s" for s in ("error", "warning", "note")
        )
        typer.echo(f"{found.images} images: {counted}")


def _colour(severity: str) -> str:
    return {"error": "red", "warning": "yellow"}.get(severity, "blue")


def _print_statistics(found: Statistics) -> None:
    from rich.console import Console

    from blemish.data.statistics import summary_lines

    console = Console()
    console.print(_rich_table(("", ""), summary_lines(found)))
    splits = list(found.splits)
    rows = [
        (x.title, str(x.images), str(x.objects), *(str(x.by_split[s]) for s in splits)) for x in found.labels
    ]
    console.print(_rich_table(("label", "images", "objects", *splits), rows, right=range(1, 3 + len(splits))))
    if 1 < len(found.labels) <= 12:
        display_names = [x.title for x in found.labels]
        together = [(t, *(str(v) for v in row)) for t, row in zip(display_names, found.together, strict=True)]
        console.print(
            _rich_table(("together", *display_names), together, right=range(1, 1 + len(display_names)))
        )


def _rich_table(header: Iterable[str], rows: Iterable[Iterable[str]], right: Iterable[int] = ()) -> Any:
    from rich.markup import escape  # a label may be called [/bold]
    from rich.table import Table

    table = Table(show_header=any(header), box=None, pad_edge=False)
    numbers = set(right)
    justify: Callable[[int], Any] = lambda i: "right" if i in numbers else "left"  # noqa: E731
    for position, name in enumerate(header):
        table.add_column(escape(name), justify=justify(position))
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
