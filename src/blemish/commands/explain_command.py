"""`blemish explain`: heatmaps as overlays, arrays and numbers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.shared_options import DeviceOption, ThreadsOption

if TYPE_CHECKING:
    from blemish.explanation import Explainer, Heatmap

PARTLY_FAILED = 1
ALL_FAILED = 2
NUMBERS_FILE = "explanations.json"
MAX_LABEL_LENGTH = 60  # characters of a label in a file name, which may have 255 bytes


def explain(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Images, folders (searched recursively), glob patterns, or - for a list of paths on "
            "standard input.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE|RUN",
            help="Model file; or the folder of a training run, for gradient methods on detection and "
            "segmentation models (needs torch).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Folder of the overlays and heatmaps.",
            show_default=False,
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="grad-cam, hires-cam, layer-cam, eigen-cam, score-cam (need the explanation graph of the "
            "model file), occlusion, rise (any model; D-RISE for detections), or the method of a plug-in.",
            show_default="that of the model file, else occlusion",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(help="Explain this label.", show_default="every positive label or detection"),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Read this layer of the explanation graph.",
            show_default="that of the model file for its method, else all, averaged",
        ),
    ] = None,
    max_targets: Annotated[
        int, typer.Option(min=1, help="Maximum number of labels or detections to explain per image.")
    ] = 5,
    max_evals: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Maximum number of forward passes per heatmap of occlusion, rise and score-cam.",
            show_default="256, 1000 and 512",
        ),
    ] = None,
    colormap: Annotated[
        str, typer.Option(help="Colormap of the overlays: viridis, inferno, cividis or jet.")
    ] = "viridis",
    faithfulness: Annotated[
        bool, typer.Option(help="Measure deletion and insertion, with 32 more forward passes per heatmap.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Random seed of the masks of rise.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Masked images per forward pass.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per heatmap.")] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Show which parts of an image a score depends on.

    The output folder gets an overlay (JPEG) and a heatmap (16-bit PNG and .npy) for each image and each label
    or detection, and their numbers in explanations.json. For an image that cannot be used, the output has a
    line with its error; the exit code is then 1.

    Examples:
      blemish explain cells/ --model model.onnx --output heatmaps/

      blemish explain car.jpg --model cars.onnx --label dent --method occlusion --output heatmaps/
    """
    from blemish.commands.json_output import fields_of_error, json_document, print_json
    from blemish.errors import BlemishError
    from blemish.explanation.colormaps import color_table
    from blemish.imaging import PassedOver
    from blemish.inference.sources import find_paths
    from blemish.model_file import write_atomically

    color_table(colormap)  # refuses an unknown name before any work
    passed_over = PassedOver()
    paths = find_paths(sources, sys.stdin, passed_over)
    explainer = _open_explainer(model, device, threads, batch_size)
    first = method or explainer.default_method(label)
    explainer.check(first, label, layer)
    passes = explainer.max_forward_passes(first, max_evals, faithfulness=faithfulness)
    noun = "forward pass" if passes == 1 else "forward passes"
    typer.echo(f"blemish: {first}: at most {passes} {noun} per heatmap", err=True)
    rows: list[dict[str, Any]] = []
    failed = 0
    used_stems: set[str] = set()
    with _show_progress() as progress:
        for path in paths:
            try:
                heatmaps = explainer.explain(
                    path,
                    method=method,
                    label=label,
                    layer=layer,
                    max_targets=max_targets,
                    max_evals=max_evals,
                    seed=seed,
                    faithfulness=faithfulness,
                    progress=progress,
                )
            except BlemishError as error:
                failed += 1
                row = {"path": path.as_posix(), **fields_of_error(error)}
                typer.echo(json_document(row) if as_json else str(error))
                continue
            if not heatmaps:
                typer.echo(f"{path}: no detections to explain", err=True)
            stem = _unused(path.stem, used_stems)
            for name, heatmap in _named(heatmaps):
                files = heatmap.write(output, f"{stem}.{name}.{heatmap.method}", colormap=colormap)
                rows.append({**heatmap.to_dict(), "files": files})
                if as_json:
                    print_json(rows[-1])
                else:
                    typer.echo(_text_line(heatmap, output / files["overlay"]))
    if passed_over.count:
        typer.echo(f"blemish: warning: {passed_over.sentence()}", err=True)
    if rows:
        all_rows = [*_earlier_rows(output / NUMBERS_FILE, rows), *rows]
        document = json_document({"heatmaps": all_rows}, indent=1)
        write_atomically(output / NUMBERS_FILE, f"{document}\n".encode())
    if failed:
        raise typer.Exit(PARTLY_FAILED if rows else ALL_FAILED)


def _open_explainer(model: str, device: str, threads: int | None, batch_size: int) -> Explainer:
    """Return the explainer of a model file, or of a training run's own network."""
    from blemish.explanation import Explainer
    from blemish.hub import local_file
    from blemish.inference import load

    if Path(model).is_dir():
        return _explainer_of_run(Path(model), batch_size)
    predictor = load(local_file(model, explanation=True), device=device, threads=threads)
    assert predictor.model_file is not None  # noqa: S101  (loaded from a file)
    for warning in predictor.warnings:
        typer.echo(f"blemish: {warning}", err=True)
    return Explainer(predictor.backend, predictor.model_file, batch_size=batch_size)


def _explainer_of_run(folder: Path, batch_size: int) -> Explainer:
    """Return an explainer with the run's torch network: slower, with gradients for every task."""
    from blemish.explanation import Explainer
    from blemish.models._gradients import TorchGradients
    from blemish.models._run_loader import load_run_network
    from blemish.models._torch_backend import TorchBackend

    network, file = load_run_network(folder)
    return Explainer(TorchBackend(network), file, gradients=TorchGradients(network), batch_size=batch_size)


def _named(heatmaps: list[Heatmap]) -> Iterator[tuple[str, Heatmap]]:
    """Yield each heatmap of an image with the part of its files' names that is different for each."""
    used: set[str] = set()  # labels may differ only in case or in characters that file names cannot have
    for number, heatmap in enumerate(heatmaps, start=1):
        name = f"{heatmap.label or 'box'}-{number}" if heatmap.box_xyxy else heatmap.label
        yield _unused(_safe_name(name), used), heatmap


def _earlier_rows(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that an earlier command left in the folder, for other heatmaps than `rows`."""
    replaced = {row["files"]["overlay"] for row in rows}
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))["heatmaps"]
        return [row for row in earlier if row["files"]["overlay"] not in replaced]
    except (OSError, ValueError, TypeError, KeyError):  # there is none, or it is another program's file
        return []


def _text_line(heatmap: Heatmap, overlay: Path) -> str:
    """Return one line of text."""
    scores = ""
    if heatmap.deletion is not None and heatmap.insertion is not None:
        scores = f", deletion {heatmap.deletion:.3f}, insertion {heatmap.insertion:.3f}"
        if not heatmap.is_faithful:
            scores += " (not faithful: the score depends on the highlighted places no more than on others)"
    name = heatmap.label or "box"
    return f"{heatmap.path}: {name} {heatmap.score:.1%}{scores}, {heatmap.seconds:.1f} s -> {overlay}"


def _unused(stem: str, used: set[str]) -> str:
    """Return the stem, with a number if it is already used; some file systems ignore case."""
    name, number = stem, 1
    while name.casefold() in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name.casefold())
    return name


def _safe_name(name: str) -> str:
    """Return a label as a part of a file name that every file system accepts."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:MAX_LABEL_LENGTH] or "box"


@contextmanager
def _show_progress() -> Iterator[Callable[[int], None]]:
    """Show the number of forward passes on standard error, if it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed} forward passes"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda count: progress.update(bar, advance=count)
