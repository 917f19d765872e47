"""`blemish data`: check, describe, draw, convert, split, merge, generate and download data sets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.data_options import (
    BoxOrderOption,
    ColumnOption,
    DataArgument,
    JsonOption,
    LinkOption,
    OutputFormatOption,
    OutputOption,
    SeedOption,
    TaskOption,
)
from blemish.commands.data_output import (
    MAX_SHOWN_PER_CODE,
    print_checks,
    print_findings,
    print_statistics,
    print_written,
    report_written,
)
from blemish.commands.json_output import print_json
from blemish.commands.next_command import next_images
from blemish.commands.shared_options import CrowdOption, FormatOption, ImagesOption, UncertainOption
from blemish.errors import BadInput

if TYPE_CHECKING:
    from blemish.structures import Dataset

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.command(name="next")(next_images)

EXIT_ERRORS_FOUND = 1
EXIT_UNREADABLE = 2
PREVIEW_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

CheckIdsOption = list[str] | None


@app.command()
def check(
    data: Annotated[
        Path | None,
        typer.Argument(metavar="DATA", help="Labeled images: a folder, or a label file.", show_default=False),
    ] = None,
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: BoxOrderOption = None,
    uncertain: UncertainOption = "error",
    crowd: CrowdOption = "ignore",
    only: Annotated[
        CheckIdsOption,
        typer.Option(
            metavar="ID", help="Run only this check: an id of --list, or a glob pattern. Repeatable."
        ),
    ] = None,
    skip: Annotated[
        CheckIdsOption,
        typer.Option(
            metavar="ID", help="Leave this check out: an id of --list, or a glob pattern. Repeatable."
        ),
    ] = None,
    list_checks: Annotated[bool, typer.Option("--list", help="List the ids of the checks and exit.")] = False,
    fast: Annotated[
        bool,
        typer.Option("--fast", help="Read headers only; finds neither copies nor damage after the header."),
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Check every JPEG for damage that decoders do not report; slow."),
    ] = False,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Write a cleaned copy to --output; DATA is not changed."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="With --fix: folder of the cleaned copy."),
    ] = None,
    link: LinkOption = False,
    show_all: Annotated[
        bool,
        typer.Option("--all", help=f"Print all findings, not only the first {MAX_SHOWN_PER_CODE} of a code."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find damaged files, wrong labels, copies and leaks between splits.

    The exit code is 1 if there are errors, and 2 if the data set cannot be read.

    Examples:
      blemish data check photos/

      blemish data check photos/ --only 'labels.*' --only copies.across-splits

      blemish data check photos/ --fix --output photos-clean/
    """
    if list_checks:
        print_checks(only or (), skip or (), as_json=as_json)
        return
    if data is None:
        raise BadInput("DATA: expected the path of a data set", reason="missing-argument")
    if output is not None and not fix:
        raise BadInput(
            "--output is the folder that --fix writes to; add --fix, or remove it", reason="option"
        )
    options: dict[str, Any] = {
        "format": data_format,
        "images": images,
        "task": task,
        "columns": _parse_columns(column),
        "box_order": box_order,
        "uncertain": uncertain,
        "crowd": crowd,
        "duplicates": not fast,
        "thorough": thorough,
    }
    if fix:
        if only or skip:
            raise BadInput("--fix fixes all faults; remove --only and --skip", reason="option")
        if output is None:
            raise BadInput("--fix writes a cleaned copy; add --output DIR", reason="option")
        from blemish.data.clean import clean

        result = clean(data, output, link=link, **options)
        if as_json:
            print_json(result.to_dict(), indent=2)
        else:
            print_findings(result.found, show_all=show_all)
            for code, ids in result.dropped.items():
                typer.echo(f"left out because of {code}: {len(ids)}")
            print_written(result.written)
        raise typer.Exit(EXIT_ERRORS_FOUND if result.left.errors else 0)
    from blemish.data import audit

    findings = audit.check(data, only=only or (), skip=skip or (), **options)
    if as_json:
        print_json(findings.to_dict(), indent=2)
    else:
        print_findings(findings, show_all=show_all)
    if findings.of("unreadable-set"):
        raise typer.Exit(EXIT_UNREADABLE)
    raise typer.Exit(EXIT_ERRORS_FOUND if findings.errors else 0)


@app.command()
def stats(
    data: DataArgument,
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: BoxOrderOption = None,
    pixels: Annotated[
        bool,
        typer.Option(help="Decode every image to compute the mean and standard deviation of the colors."),
    ] = True,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a self-contained HTML page.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count labels, objects, image sizes and label co-occurrence.

    Examples:
      blemish data stats photos/

      blemish data stats annotations.json --images photos/ --html stats.html
    """
    from blemish.data.statistics import statistics

    dataset = _open(data, data_format, images, task, column, box_order)
    counted = statistics(dataset, pixels=pixels)
    if html is not None:
        html.write_text(counted.to_html(), "utf-8")
    if as_json:
        print_json(counted.to_dict(), indent=2)
    else:
        print_statistics(counted)


@app.command()
def preview(
    data: DataArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Image file to write.")
    ] = Path("preview.png"),
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: BoxOrderOption = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Draw only this split.", show_default="all"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 16,
    columns: Annotated[int, typer.Option(min=1, help="Number of images in a row.")] = 4,
    seed: SeedOption = 0,
) -> None:
    """Draw a grid of images with their annotations.

    Examples:
      blemish data preview photos/

      blemish data preview photos/ --split val --count 30 --columns 6 --output val.jpg
    """
    from blemish.data.preview import preview as draw_grid

    if output.suffix.casefold() not in PREVIEW_SUFFIXES:  # checked before the images are drawn
        raise BadInput(
            f"--output {output}: expected a file name that ends in {', '.join(PREVIEW_SUFFIXES)}",
            reason="option",
        )
    dataset = _open(data, data_format, images, task, column, box_order)
    dataset = dataset.of_split(split) if split else dataset
    draw_grid(dataset, count=count, columns=columns, seed=seed).save(output)
    typer.echo(f"{output}")


@app.command()
def convert(
    data: DataArgument,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT", help="Format to write: folders, csv, coco, voc or yolo.", show_default=False
        ),
    ],
    output: OutputOption,
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: BoxOrderOption = None,
    missing: Annotated[
        str,
        typer.Option(
            metavar="ACTION", help="What to do with entries whose image does not exist: error, drop or keep."
        ),
    ] = "error",
    uncertain: UncertainOption = "error",
    crowd: CrowdOption = "ignore",
    link: LinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a data set in another format, and list what that format cannot represent.

    Examples:
      blemish data convert VOCdevkit/ --to yolo --output yolo/

      blemish data convert labels.csv --images photos/ --to coco --output coco/ --link
    """
    from blemish.data.write_dataset import check_output, write_dataset

    check_output(output, (data, images))
    dataset = _open(data, data_format, images, task, column, box_order, missing, uncertain, crowd)
    report_written(write_dataset(dataset, output, to, link=link), as_json=as_json)


@app.command()
def split(
    data: DataArgument,
    output: OutputOption,
    fractions: Annotated[
        str,
        typer.Option(metavar="SPLIT=FRACTION,...", help="Fraction of each split; they must add up to 1."),
    ] = "train=0.8,val=0.2",
    seed: SeedOption = 0,
    group_by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUPING",
            help="Keep groups in one split: column:NAME, pattern:REGEX (of image ids) or near-duplicates."
            " Repeatable.",
        ),
    ] = None,
    to: OutputFormatOption = None,
    data_format: FormatOption = None,
    images: ImagesOption = None,
    task: TaskOption = None,
    column: ColumnOption = None,
    box_order: BoxOrderOption = None,
    link: LinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Split a data set into train, val or other parts, stratified by label, and write it.

    Examples:
      blemish data split photos/ --output split/

      blemish data split photos/ --output split/ --fractions train=0.7,test=0.3 --group-by near-duplicates
    """
    from blemish.data.split import split_dataset
    from blemish.data.write_dataset import check_output, format_to_write, write_dataset

    check_output(output, (data, images))
    parsed = _parse_fractions(fractions)
    dataset = _open(data, data_format, images, task, column, box_order)
    result = split_dataset(dataset, fractions=parsed, seed=seed, group_by=group_by)
    typer.echo(result.notes[-1], err=True)
    report_written(write_dataset(result, output, to or format_to_write(dataset), link=link), as_json=as_json)


@app.command()
def merge(
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA", help="Two or more data sets.", show_default=False)
    ],
    output: OutputOption,
    label_map: Annotated[
        Path | None,
        typer.Option(
            "--label-map",
            metavar="FILE",
            help="YAML file that renames labels, with lines such as 'scratches: scratch'; an empty"
            " name drops the label.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="Format to write.", show_default="that of the first"),
    ] = None,
    task: TaskOption = None,
    link: LinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Merge data sets into one, with labels matched by name.

    Examples:
      blemish data merge batch1/ batch2/ --output all/

      blemish data merge batch1/ batch2/ --label-map renamed.yaml --to coco --output all/
    """
    from blemish.data.merge import merge_datasets, read_label_map
    from blemish.data.write_dataset import check_output, format_to_write, write_dataset

    check_output(output, data)
    mapping = read_label_map(label_map) if label_map is not None else {}
    merged = merge_datasets([_open(path, None, None, task, None, None) for path in data], mapping)
    typer.echo(f"note: {merged.notes[-1]}", err=True)
    report_written(write_dataset(merged, output, to or format_to_write(merged), link=link), as_json=as_json)


@app.command()
def synthesize(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="Kind of images: cells, modules, panels or vehicles.", show_default=False
        ),
    ],
    output: OutputOption,
    task: TaskOption = None,
    to: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="Format to write.", show_default="by the task"),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 100,
    seed: SeedOption = 0,
    size: Annotated[
        int, typer.Option(help="Height and width of each image, in pixels; of modules the longer one.")
    ] = 128,
    bits: Annotated[int, typer.Option(help="Bits per channel: 8, or 16 for cells.")] = 8,
    fractions: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT=FRACTION,...",
            help="Fraction of each split.",
            show_default="no splits",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Generate a synthetic data set from a seed.

    Examples:
      blemish data synthesize panels --task detection --output panels/

      blemish data synthesize modules --count 3 --size 1600 --output modules/

      blemish data synthesize cells --count 500 --bits 16 --fractions train=0.8,val=0.2 --output cells/
    """
    from blemish.data.synthetic.generate import synthesize as generate

    parsed = _parse_fractions(fractions) if fractions else None
    written = generate(
        kind, output, task=task, format=to, count=count, seed=seed, size=size, bits=bits, fractions=parsed
    )
    report_written(written, as_json=as_json)


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Data set: voc2007 or voc2012.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to unpack into.")
    ] = Path("data"),
) -> None:
    """Download a public data set; an interrupted download continues where it stopped.

    Example:
      blemish data fetch voc2007 --output data/
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from blemish.data.download import fetch_dataset

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        rows: dict[str, Any] = {}

        def update(file: str, received: int, total: int) -> None:
            if file not in rows:
                rows[file] = progress.add_task(file)
            progress.update(rows[file], completed=received, total=total)

        folder = fetch_dataset(name, output, progress=update)
    typer.echo(f"{folder}")


def _open(
    path: Path,
    data_format: str | None,
    images: Path | None,
    task: str | None,
    column: list[str] | None,
    box_order: str | None,
    missing: str = "error",
    uncertain: str = "error",
    crowd: str = "ignore",
) -> Dataset:
    from blemish.data import open_dataset

    dataset = open_dataset(
        path,
        format=data_format,
        images=images,
        task=task,
        columns=_parse_columns(column),
        box_order=box_order,
        missing=missing,
        uncertain=uncertain,
        crowd=crowd,
        minimum_labels=1,
    )
    for note in dataset.notes:
        typer.echo(f"note: {note}", err=True)
    return dataset


def _parse_columns(entries: list[str] | None) -> dict[str, str | int]:
    """Return `label=shape` and `path=0` as the readers take them."""
    columns: dict[str, str | int] = {}
    for entry in entries or ():
        role, _, name = entry.partition("=")
        if not name:
            raise BadInput(
                f"--column: expected ROLE=NAME, such as label=shape or path=0, got {entry!r}", reason="option"
            )
        columns[role] = int(name) if name.isdecimal() else name
    return columns


def _parse_fractions(text: str) -> dict[str, float]:
    fractions = {}
    for entry in text.split(","):
        name, _, value = entry.partition("=")
        try:
            fractions[name.strip()] = float(value)
        except ValueError:
            raise BadInput(
                f"--fractions: expected SPLIT=FRACTION,..., such as train=0.8,val=0.2, got {text!r}",
                reason="option",
            ) from None
    return fractions
