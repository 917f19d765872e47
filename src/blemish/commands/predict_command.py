"""`blemish predict`: what a model file says of images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
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
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from blemish.imaging import Limits
    from blemish.inference.inputs import Source

FAILED_IN_PART = 1
NOTHING_DONE = 2


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files, films, folders (searched to the bottom), patterns, - for a list on standard input.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="FILE", help="The model file.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Write each image with what was found drawn on it: boxes at or above their label's "
            "threshold, or from --min-score.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON an image.")] = False,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out boxes below this score.")
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(min=1, help="At most this many boxes an image.")
    ] = None,
    batch_size: BatchOption = None,
    tile: TileOption = None,
    tile_overlap: OverlapOption = 0.25,
    frame_step: Annotated[int, typer.Option(min=1, help="Of films, look at every how many frames.")] = 1,
    backend: BackendOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    limit_megapixels: MegapixelsOption = 64,
) -> None:
    """Look at images with a model file.

    Images that cannot be used get a line of their own; the exit code is then 1, or 2 if none could be.
    """
    from dataclasses import replace

    from blemish.commands.output import Pictures, json_line, line
    from blemish.errors import BlemishError
    from blemish.imaging import LIMITS
    from blemish.inference import load
    from blemish.inference.sources import find_sources

    found = find_sources(sources, sys.stdin)
    limits = replace(LIMITS, max_pixels=int(limit_megapixels * 1e6))
    predictor = load(model, backend=backend, device=device, threads=threads, limits=limits)
    for caution in predictor.cautions:
        typer.echo(f"blemish: {caution}", err=True)
    white_level = predictor.contract.inputs[0].white_level
    done = failed = 0
    try:
        with (
            _progress(wanted=tile is not None) as progress,
            Pictures(output, white_level, min_score) if output is not None else nullcontext() as pictures,
        ):
            looked_at = _with_frames(found, limits, frame_step)
            keep = output is not None
            if tile is None:
                outcomes = predictor.predict_many(
                    looked_at,
                    batch_size,
                    min_score=min_score,
                    max_detections=max_detections,
                    keep_images=keep,
                )
            else:
                from blemish.inference.tiles import Tiling, predict_many_tiled

                outcomes = predict_many_tiled(
                    predictor,
                    looked_at,
                    Tiling(tile, tile_overlap),
                    predictor.selection(min_score, max_detections),
                    batch_size=batch_size or 1,
                    keep_images=keep,
                    advance=progress.tiles,
                )
            for outcome in outcomes:
                drawn = None if pictures is None or outcome.prediction is None else pictures.add(outcome)
                sys.stdout.write((json_line(outcome, drawn) if as_json else line(outcome)) + "\n")
                sys.stdout.flush()  # whoever reads a pipe sees each image as it is done
                failed += outcome.error is not None
                done += outcome.error is None
                progress.images(done + failed, failed)
    except BlemishError as error:
        if not done:
            raise
        typer.echo(f"blemish: stopped after {done} images: {error}", err=True)
        raise typer.Exit(FAILED_IN_PART) from error
    if failed:
        raise typer.Exit(FAILED_IN_PART if done else NOTHING_DONE)


def _with_frames(paths: Iterable[Path], limits: Limits, step: int) -> Iterator[Source]:
    """The images, and of each film its frames."""
    from blemish.inference.sources import is_video

    for path in paths:
        if is_video(path):
            from blemish.inference.video import frames

            yield from frames(path, limits, step=step)
        else:
            yield path


class _Silent:
    """Progress where nobody looks."""

    tiles: Callable[[int, int], None] | None = None

    def images(self, done: int, failed: int) -> None:
        """Say nothing."""


class _Shown(_Silent):
    """Progress on standard error."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._images = bars.add_task("images", total=None)
        self._tiles: Any = None
        self.tiles = self._show_tiles

    def images(self, done: int, failed: int) -> None:
        """Count them."""
        said = f"images, {failed} failed" if failed else "images"
        self._bars.update(self._images, completed=done, description=said)

    def _show_tiles(self, done: int, total: int) -> None:
        if self._tiles is None:
            self._tiles = self._bars.add_task("tiles")
        self._bars.update(self._tiles, completed=done, total=total)


@contextmanager
def _progress(*, wanted: bool) -> Iterator[_Silent]:
    """Progress on standard error where that is a terminal and the lines go elsewhere, or where `wanted`."""
    if not sys.stderr.isatty() or (sys.stdout.isatty() and not wanted):
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Shown(bars)
