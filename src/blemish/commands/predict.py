"""`blemish predict`: what a model file says of photographs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from blemish.inference import Outcome
    from blemish.vocabulary import Prediction

FAILED_IN_PART = 1
NOTHING_DONE = 2


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders (searched to the bottom), patterns, or - for a list on standard input.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="FILE", help="The model file.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write each photograph with what was found drawn on it."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a photograph.")] = False,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out boxes below this score.")
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(min=1, help="At most this many boxes a photograph.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Photographs that go through the network together.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, onnxruntime or openvino.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="For the network; every core where not given.")
    ] = None,
    limit_megapixels: Annotated[
        float, typer.Option(min=0.001, help="Refuse larger photographs before decoding them.")
    ] = 64,
) -> None:
    """Look at photographs with a model file.

    Photographs that cannot be used get a line of their own; the exit code is then 1, or 2 if none could be.
    """
    from dataclasses import replace

    from blemish.errors import BlemishError
    from blemish.imaging import LIMITS
    from blemish.inference import load
    from blemish.inference.sources import find_sources

    if hasattr(sys.stdout, "reconfigure"):  # file names that the terminal cannot show must not stop the run
        sys.stdout.reconfigure(errors="backslashreplace")
    found = find_sources(sources, sys.stdin)
    limits = replace(LIMITS, max_pixels=int(limit_megapixels * 1e6))
    predictor = load(model, backend=backend, device=device, threads=threads, limits=limits)
    for caution in predictor.cautions:
        typer.echo(f"blemish: {caution}", err=True)
    outcomes = predictor.predict_many(
        found,
        batch_size,
        min_score=min_score,
        max_detections=max_detections,
        keep_photographs=output is not None,
    )
    done = failed = 0
    names: set[str] = set()
    try:
        with _progress() as advance:
            for outcome in outcomes:
                drawn = None
                if outcome.prediction is not None and output is not None:
                    drawn = _draw(outcome, output, names, predictor.contract.inputs[0].white_level)
                sys.stdout.write((_json(outcome, drawn) if as_json else _line(outcome)) + "\n")
                sys.stdout.flush()  # whoever reads a pipe sees each photograph as it is done
                failed += outcome.error is not None
                done += outcome.error is None
                advance(failed)
    except BlemishError as error:
        if not done:
            raise
        typer.echo(f"blemish: stopped after {done} photographs: {error}", err=True)
        raise typer.Exit(FAILED_IN_PART) from error
    if failed:
        raise typer.Exit(FAILED_IN_PART if done else NOTHING_DONE)


def _json(outcome: Outcome, drawn: Path | None) -> str:
    """One line of JSON: the prediction, or the path and the error."""
    if outcome.prediction is None:
        return json.dumps({"path": Path(outcome.source).as_posix(), "error": str(outcome.error)})
    answer = outcome.prediction.to_dict()
    if outcome.prediction.masks is not None:
        from blemish.geometry import mask_to_rings, rle_to_text

        for found, mask in zip(answer["objects"], outcome.prediction.masks, strict=True):
            found["polygons"] = [ring.round(1).tolist() for ring in mask_to_rings(mask)]
            found["rle"] = {"size": list(mask.size_hw), "counts": rle_to_text(mask)}
    if drawn is not None:
        answer["drawn"] = drawn.as_posix()
    return json.dumps(answer)


def _line(outcome: Outcome) -> str:
    """One line for people: the photograph and the verdict."""
    if outcome.prediction is None:
        return typer.style(str(outcome.error), fg="red") if sys.stdout.isatty() else str(outcome.error)
    return f"{outcome.source}: {verdict(outcome.prediction)}"


def verdict(prediction: Prediction) -> str:
    """What the model says at its own thresholds, in a few words."""
    from blemish.vocabulary import Task

    titles, scores = prediction.labels.titles, prediction.label_scores
    if prediction.task is Task.CLASSIFICATION:
        return f"{titles[prediction.label_index[0]]} {prediction.scores[0]:.1%}"
    if prediction.task is Task.MULTILABEL:
        held = prediction.verdict()
        order = (-scores).argsort()
        yes = ", ".join(f"{titles[i]} {scores[i]:.1%}" for i in order if held[i])
        no = ", ".join(f"{titles[i]} {scores[i]:.1%}" for i in order if not held[i])
        return (yes or "nothing found") + (f" (not: {no})" if no else "")
    assert prediction.boxes_xyxy is not None  # noqa: S101  (the other tasks have boxes)
    if prediction.task is Task.LOCALIZATION:
        return "box " + " ".join(f"{x:.1f}" for x in prediction.boxes_xyxy[0])
    sure = prediction.scores >= prediction.thresholds[prediction.label_index]
    if not sure.any():
        return "nothing found"
    counts = Counter(prediction.label_index[sure].tolist())
    best = {i: prediction.scores[sure & (prediction.label_index == i)].max() for i in counts}
    return ", ".join(
        f"{count} x {titles[i]} (best {best[i]:.1%})"
        for i, count in sorted(counts.items(), key=lambda item: -best[item[0]])
    )


def _draw(outcome: Outcome, folder: Path, names: set[str], white_level: int) -> Path:
    """Write the photograph with its prediction; the names of one run are all different."""
    import io

    from blemish.drawing import draw
    from blemish.inference.sources import DRAWN_SUFFIX
    from blemish.modelfile import write_atomically

    assert outcome.prediction is not None and outcome.photograph is not None  # noqa: S101
    stem = Path(outcome.source).stem
    name, number = stem, 1
    while name.casefold() in names:  # file systems that fold case must not merge two photographs
        number += 1
        name = f"{stem}-{number}"
    names.add(name.casefold())
    buffer = io.BytesIO()
    draw(outcome.prediction, outcome.photograph.to_pil(white_level)).save(buffer, "JPEG", quality=90)
    path = folder / f"{name}{DRAWN_SUFFIX}"
    write_atomically(path, buffer.getvalue())
    return path


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """A count on standard error where that is a terminal and the lines go elsewhere; else nothing."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda failed: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        SpinnerColumn(),
        TextColumn(
            "{task.completed} photographs, {task.fields[failed]} failed, {task.fields[rate]} a second"
        ),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=None, failed=0, rate="-")

        def advance(failed: int) -> None:
            speed = progress.tasks[0].speed
            progress.update(bar, advance=1, failed=failed, rate="-" if speed is None else f"{speed:.1f}")

        yield advance
