"""`blemish predict`: run inference with a model file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.shared_options import (
    BackendOption,
    BatchOption,
    DeviceOption,
    MegapixelsOption,
    OverlapOption,
    ThreadsOption,
    TileOption,
    WhiteLevelOption,
)

if TYPE_CHECKING:
    from blemish.commands.output import DrawnWriter
    from blemish.errors import BlemishError
    from blemish.inference import PredictionResult

PARTLY_FAILED = 1
ALL_FAILED = 2


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Images, videos, folders (searched recursively for images), glob patterns, or - for a list "
            "of paths on standard input.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="FILE", help="Model file, or hf://USER/NAME.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Write each image with its prediction drawn on it: the detections at or above the threshold "
            "of their label, or from --min-score.",
            show_default="nothing is drawn",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per image.")] = False,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Minimum score of a detection.", show_default="the model file's minimum"
        ),
    ] = None,
    max_detections: Annotated[
        int | None,
        typer.Option(
            min=1, help="Maximum number of detections per image.", show_default="the model file's maximum"
        ),
    ] = None,
    batch_size: BatchOption = None,
    tile_size: TileOption = None,
    tile_overlap: OverlapOption = 0.25,
    frame_step: Annotated[
        int, typer.Option(min=1, metavar="N", help="Process every Nth frame of videos.")
    ] = 1,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_megapixels: MegapixelsOption = 64,
    white_level: WhiteLevelOption = None,
) -> None:
    """Run inference on images and videos with a model file.

    For an image that cannot be used, the output has a line with its error, and the others continue. Exit
    code 0: all images succeeded; 1: some failed; 2: all failed.

    Examples:
      blemish predict claims/ --model runs/cars/model.onnx --output drawn/

      blemish predict "photos/**/*.jpg" --model model.onnx --json > predictions.jsonl

      blemish predict mosaic.tif --model model.onnx --tile-size 640 --max-megapixels 120
    """
    from dataclasses import replace

    from blemish.commands.output import DrawnWriter, json_line, text_line
    from blemish.errors import BlemishError
    from blemish.imaging import LIMITS, PassedOver
    from blemish.inference import Tiling, load
    from blemish.inference.sources import find_inputs

    limits = replace(LIMITS, max_pixels=int(max_megapixels * 1e6))
    passed_over = PassedOver()
    inputs = find_inputs(sources, sys.stdin, limits=limits, frame_step=frame_step, passed_over=passed_over)
    predictor = load(
        model, backend=backend, device=device, threads=threads, limits=limits, white_level=white_level
    )
    for warning in predictor.warnings:
        typer.echo(f"blemish: {warning}", err=True)
    done = failed = suspicious = 0
    first_warning = ""
    try:
        with (
            _show_progress(even_beside_output=tile_size is not None) as progress,
            DrawnWriter(output, min_score) if output is not None else nullcontext() as writer,
        ):
            results = predictor.stream(
                inputs,
                batch_size,
                tiling=None if tile_size is None else Tiling(tile_size, tile_overlap),
                min_score=min_score,
                max_detections=max_detections,
                keep_images=writer is not None,
                on_tiles=progress.on_tiles,
            )
            for result in results:
                drawn, not_drawn = None, None
                if writer is not None and result.prediction is not None:
                    drawn, not_drawn = _draw(writer, result)
                if as_json:
                    sys.stdout.write(json_line(result, drawn, not_drawn) + "\n")
                else:
                    sys.stdout.write(text_line(result, not_drawn) + "\n")
                sys.stdout.flush()  # the reader of a pipe gets each image when it is done
                if result.warning:
                    suspicious += 1
                    first_warning = first_warning or f"{result.input}: {result.warning}"
                is_failed = result.error is not None or not_drawn is not None
                failed += is_failed
                done += not is_failed
                progress.on_image(done + failed, failed)
    except BlemishError as error:
        if not done:
            raise
        typer.echo(f"blemish: stopped after {done} images: {error}", err=True)
        raise typer.Exit(PARTLY_FAILED) from error
    finally:
        if suspicious:
            count = "1 image" if suspicious == 1 else f"{suspicious} images"
            typer.echo(
                f"blemish: warning: {count} may look nearly black to the model. {first_warning}. "
                "Name the value of white with --white-level.",
                err=True,
            )
        if passed_over.count:
            typer.echo(f"blemish: warning: {passed_over.sentence()}", err=True)
    if failed:
        raise typer.Exit(PARTLY_FAILED if done else ALL_FAILED)


def _draw(writer: DrawnWriter, result: PredictionResult) -> tuple[Path | None, BlemishError | None]:
    """Return the drawn file of a result, or the error, which then concerns this image alone.

    Raises:
        StorageFull: the disk is full or read-only, so that no other image can be written either.
    """
    from blemish.errors import BadImage, BlemishError, StorageFull

    try:
        return writer.add(result), None
    except StorageFull:
        raise
    except BlemishError as error:
        return None, error
    except (ArithmeticError, MemoryError, OSError, ValueError) as error:
        # Pillow and its encoders raise these for images that a format cannot hold.
        return None, BadImage(
            result.input.path, f"the prediction cannot be drawn ({error})", reason="not-drawn"
        )


class _NoProgress:
    """Progress that is not shown."""

    on_tiles: Callable[[int, int], None] | None = None

    def on_image(self, done: int, failed: int) -> None:
        """Ignore the progress."""


class _ProgressBars(_NoProgress):
    """Progress on standard error.

    Args:
        bars: a `rich.progress.Progress`.
    """

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._images = bars.add_task("images", total=None)
        self._tiles: Any = None
        self.on_tiles = self._show_tiles

    def on_image(self, done: int, failed: int) -> None:
        """Show the number of images that are done, and of those that failed."""
        description = f"images, {failed} failed" if failed else "images"
        self._bars.update(self._images, completed=done, description=description)

    def _show_tiles(self, done: int, total: int) -> None:
        if self._tiles is None:
            self._tiles = self._bars.add_task("tiles")
        self._bars.update(self._tiles, completed=done, total=total)


@contextmanager
def _show_progress(*, even_beside_output: bool) -> Iterator[_NoProgress]:
    """Show progress if standard error is a terminal and standard output is not, or `even_beside_output`."""
    if not sys.stderr.isatty() or (sys.stdout.isatty() and not even_beside_output):
        yield _NoProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _ProgressBars(bars)
