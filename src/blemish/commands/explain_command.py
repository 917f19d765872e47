"""`blemish explain`: where a model looked, as overlays, maps and numbers."""

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

FAILED_IN_PART = 1
NOTHING_DONE = 2
NUMBERS = "explanations.json"
LONGEST_LABEL = 60  # characters of one in a file's name, which may have 255 bytes in all


def explain(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders (searched to the bottom), patterns, or - for a list on standard input.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="FILE|RUN",
            help="The model file; or a run's folder, for gradient methods on detectors (needs torch).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Where overlays and maps go.", show_default=False),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="grad-cam, hires-cam, layer-cam, eigen-cam, score-cam (need the explanation graph), "
            "occlusion, rise (any model; for detections D-RISE)."
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Explain this label; by default everything the model says.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Read this layer of the explanation graph; all by default.")
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(min=2, help="Versions of an image that an occlusion, rise or score-cam map may ask."),
    ] = None,
    colours: Annotated[str, typer.Option(help="viridis, inferno, cividis or jet.")] = "viridis",
    scores: Annotated[
        bool, typer.Option("--scores/--no-scores", help="Measure deletion and insertion, 32 more looks.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the random masks.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Versions the network sees at once.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a map.")] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Show where a model looked.

    For each image and label: an overlay (JPEG), the map (16-bit PNG and .npy), and its numbers in
    explanations.json. Images that cannot be used get a line of their own; the exit code is then 1.
    """
    from blemish.errors import BlemishError
    from blemish.explanation import Explainer
    from blemish.explanation.colormaps import colour_table
    from blemish.hub import local_file
    from blemish.inference import load
    from blemish.inference.sources import find_sources
    from blemish.model_file import write_atomically

    colour_table(colours)  # an unknown name is refused before any work
    found = find_sources(sources, sys.stdin)
    if Path(model).is_dir():
        explainer = _of_run(Path(model), batch_size)
    else:
        predictor = load(local_file(model, explanation=True), device=device, threads=threads)
        assert predictor.model_file is not None  # noqa: S101  (loaded from a file)
        for caution in predictor.cautions:
            typer.echo(f"blemish: {caution}", err=True)
        explainer = Explainer(predictor.backend, predictor.model_file, batch_size=batch_size)
    chosen = method or explainer.default_method()
    explainer.check(chosen, label, layer)
    typer.echo(f"blemish: {_cost(explainer, chosen, budget, judge=scores)}", err=True)
    rows: list[dict[str, Any]] = []
    failed = 0
    taken: set[str] = set()
    with _progress() as advance:
        for source in found:
            try:
                made = explainer.explain(
                    source,
                    method=chosen,
                    label=label,
                    layer=layer,
                    budget=budget,
                    seed=seed,
                    judge=scores,
                    progress=advance,
                )
            except BlemishError as error:
                failed += 1
                row = {"path": Path(source).as_posix(), "error": str(error)}
                typer.echo(json.dumps(row) if as_json else row["error"])
                continue
            stem = _free(Path(source).stem, taken)
            if not made:
                typer.echo(f"{source}: the model finds nothing, so there is nothing to explain", err=True)
            endings: set[str] = set()
            for number, one in enumerate(made, start=1):
                ending = f"{one.label or 'box'}-{number}" if one.box_xyxy else one.label
                named = _free(_plain(ending), endings)  # labels that differ in case or in signs only
                files = one.write(output, f"{stem}.{named}.{chosen}", colours=colours)
                rows.append({**one.to_dict(), "files": files})
                typer.echo(json.dumps(rows[-1]) if as_json else _line(one, output / files["overlay"]))
    if rows:
        kept = [*_earlier(output / NUMBERS, rows), *rows]
        write_atomically(output / NUMBERS, (json.dumps(kept, indent=1) + "\n").encode())
    if failed:
        raise typer.Exit(FAILED_IN_PART if rows else NOTHING_DONE)


def _earlier(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an earlier command left in the folder, of other maps than `rows`: another method's, say."""
    replaced = {row["files"]["overlay"] for row in rows}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [row for row in found if row["files"]["overlay"] not in replaced]
    except (OSError, ValueError, TypeError, KeyError):  # none, or not ours
        return []


def _of_run(folder: Path, batch_size: int) -> Explainer:
    """The run's own network: slower, and with gradients for every task."""
    from blemish.explanation import Explainer
    from blemish.models._gradients import TorchGradients
    from blemish.models._run_loader import load_run_network
    from blemish.models._torch_backend import TorchBackend

    network, file = load_run_network(folder)
    return Explainer(TorchBackend(network), file, gradients=TorchGradients(network), batch_size=batch_size)


def _cost(explainer: Explainer, method: str, budget: int | None, *, judge: bool) -> str:
    looks = explainer.looks(method, budget, judge=judge)
    return f"{method}: at most {looks} looks of the model for each map"


def _line(one: Heatmap, overlay: Path) -> str:
    scores = ""
    if one.deletion is not None and one.insertion is not None:
        scores = f", deletion {one.deletion:.3f}, insertion {one.insertion:.3f}"
    name = one.label or "box"
    return f"{one.path}: {name} {one.score:.1%}{scores}, {one.seconds:.1f} s -> {overlay}"


def _free(stem: str, taken: set[str]) -> str:
    """The stem, numbered where another file has it; case does not tell files apart."""
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name


def _plain(name: str) -> str:
    """A label as part of a file's name on every system."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:LONGEST_LABEL] or "box"


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """A count of looks on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda looks: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed} looks"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None)
        yield lambda looks: progress.update(bar, advance=looks)
