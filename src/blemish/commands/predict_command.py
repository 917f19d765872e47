"""`blemish predict`: run inference with a model file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish._version import __version__
from blemish.commands.shard_options import (
    EngineName,
    EngineOption,
    OutputShardsOption,
    ShardFileFormat,
    ShardFormatOption,
    ShardsOption,
    WorkersOption,
)
from blemish.commands.shared_options import (
    BackendOption,
    BatchOption,
    BlurFacesOption,
    CaptureOption,
    CostFalsePositiveOption,
    CostMissOption,
    CostReviewOption,
    DeviceOption,
    GoodLabelOption,
    MaskFormat,
    MegapixelsOption,
    OverlapOption,
    RiskOption,
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
    blur_faces: BlurFacesOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per image.")] = False,
    output_json: Annotated[
        Path | None,
        typer.Option(
            "--output-json",
            metavar="FILE",
            dir_okay=False,
            help="Write one line of JSON per image (JSON Lines, as --json prints) to this file when all "
            "images are done; until then they are in FILE.partial.",
            show_default="no file",
        ),
    ] = None,
    output_shards: OutputShardsOption = None,
    shards: ShardsOption = None,
    shard_format: ShardFormatOption = ShardFileFormat.JSONL,
    engine: EngineOption = EngineName.LOCAL,
    workers: WorkersOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue an interrupted run with the same model and options: from the FILE.partial of "
            "--output-json (images that changed since are predicted again), or with the missing shards of "
            "--output-shards.",
        ),
    ] = False,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Write the predictions as labels, with the images, for a labeling tool or for training:"
            " coco, yolo, voc, labelme, cvat, labelstudio, via, supervisely, geojson, csv, ndjson, masks or"
            " folders.",
            show_default="no labels",
        ),
    ] = None,
    save_to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Folder for --save; it must be new or empty.",
            show_default="predictions-FORMAT",
        ),
    ] = None,
    save_crops: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Write the part of the image inside each box to DIR/LABEL/; DIR must be new or empty.",
            show_default="no crops",
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="For --save: make hard links to the images instead of copies.")
    ] = False,
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
    risk: RiskOption = None,
    cost_miss: CostMissOption = None,
    cost_false_positive: CostFalsePositiveOption = None,
    cost_review: CostReviewOption = None,
    good_label: GoodLabelOption = None,
    capture_check: CaptureOption = False,
    mask_format: Annotated[
        MaskFormat,
        typer.Option(
            help="Masks in the JSON: COCO's compressed run lengths, outlines, or both.",
        ),
    ] = MaskFormat.RLE,
    all_masks: Annotated[
        bool,
        typer.Option(
            "--all-masks",
            help="Write the masks of all detections to the JSON, and not only of those at or above the "
            "threshold of their label.",
        ),
    ] = False,
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

      blemish predict archive/ --model model.onnx --output-json predictions.jsonl --resume

      blemish predict s3://claims/2026/ --model model.onnx --output-shards rows/ --shards 64 --resume

      blemish predict new/ --model model.onnx --save labelstudio --save-to pre-annotations/

      blemish predict photos/ --model model.onnx --risk 0.05 --capture-check

      blemish predict mosaic.tif --model model.onnx --tile-size 640 --max-megapixels 120
    """
    from dataclasses import replace

    from blemish.abstention import Decider, make_policy
    from blemish.commands.label_output import LabelOutput
    from blemish.commands.output import DrawnWriter, open_face_blur, text_line
    from blemish.commands.prediction_file import PredictionFile
    from blemish.errors import BadInput, BlemishError
    from blemish.imaging import LIMITS, PassedOver
    from blemish.inference import Tiling, load
    from blemish.inference.result_json import json_line
    from blemish.inference.sources import find_inputs

    if resume and output_json is None and output_shards is None:
        raise BadInput(
            "--resume: expected --output-json FILE or --output-shards DIR, what to continue", reason="resume"
        )
    if output_shards is None and (shards is not None or workers is not None or engine is EngineName.RAY):
        raise BadInput(
            "--shards, --engine and --workers: expected --output-shards DIR, the folder of the shards",
            reason="shards",
        )
    if resume and (save is not None or save_crops is not None):
        raise BadInput(
            "--resume: --save and --save-crops need all predictions of a run. Run without --resume, or write"
            " the labels in a second run.",
            reason="resume",
        )

    policy = make_policy(
        risk, miss=cost_miss, false_positive=cost_false_positive, review=cost_review, good_label=good_label
    )
    if output_shards is not None:
        beside = {
            "--output": output,
            "--output-json": output_json,
            "--save": save,
            "--save-crops": save_crops,
            "--frame-step": frame_step != 1,
        }
        for name, value in beside.items():
            if value:
                raise BadInput(
                    f"{name}: not possible with --output-shards. Run it separately.", reason="shards"
                )
        from blemish.archives import Job
        from blemish.commands.predict_shards import predict_shards

        job = Job(
            model=model,
            backend=backend,
            device=device,
            threads=threads,
            white_level=white_level,
            max_pixels=int(max_megapixels * 1e6),
            batch_size=batch_size,
            tiling=None if tile_size is None else Tiling(tile_size, tile_overlap),
            min_score=min_score,
            max_detections=max_detections,
            policy=policy,
            mask_format=str(mask_format),
            all_masks=all_masks,
            check_capture=capture_check,
        )
        predict_shards(
            job,
            sources,
            output_shards,
            shards=shards,
            shard_format=shard_format,
            engine=engine,
            workers=workers,
            resume=resume,
            as_json=as_json,
        )
        return
    limits = replace(LIMITS, max_pixels=int(max_megapixels * 1e6))
    passed_over = PassedOver()
    inputs = find_inputs(sources, sys.stdin, limits=limits, frame_step=frame_step, passed_over=passed_over)
    file = None if output_json is None else PredictionFile(output_json, resume=resume)
    predictor = load(
        model,
        backend=backend,
        device=device,
        threads=threads,
        limits=limits,
        white_level=white_level,
        check_capture=capture_check,
    )
    blur = open_face_blur(output, save, save_crops) if blur_faces else None
    labels = LabelOutput(
        predictor,
        sources,
        save=save,
        save_to=save_to,
        save_crops=save_crops,
        link=link,
        min_score=min_score,
        name=model,
    )

    predictor.compares_images = file is None  # so that a resumed run equals one without interruption
    decider = None if policy is None else Decider(predictor.contract, policy, model)
    for warning in predictor.warnings:
        typer.echo(f"blemish: {warning}", err=True)
    if capture_check and predictor.contract.capture is None:
        typer.echo(f"blemish: warning: {model} has no limits for --capture-check; see calibrate", err=True)
    size = 1 if tile_size is not None else predictor.batch_size(batch_size)
    options = {
        "blemish": __version__,
        "model_digest": predictor.digest,
        "backend": predictor.backend.name,
        "output": None if output is None else str(output),
        "min_score": min_score,
        "max_detections": max_detections,
        "batch_size": size if tile_size is None else batch_size,
        "tile_size": tile_size,
        "tile_overlap": None if tile_size is None else tile_overlap,
        "frame_step": frame_step,
        "max_megapixels": max_megapixels,
        "white_level": white_level,
        "capture_check": capture_check,
        "blur_faces": blur_faces,
        "decision": None if policy is None else {**policy.to_dict(), "good_label": good_label},
        "mask_format": str(mask_format),
        "all_masks": all_masks,
    }
    counts = _Counts()
    try:
        with (
            _show_progress(even_beside_output=tile_size is not None) as progress,
            nullcontext() if file is None else file.open(options, batch_size=size, drawn_in=output),
            DrawnWriter(output, min_score, blur) if output is not None else nullcontext() as writer,
            ExitStack() as ends,
        ):
            if file is not None:
                inputs = file.pending(inputs)
                if writer is not None:
                    writer.reserve(file.drawn_files)
            results = predictor.stream(
                inputs,
                batch_size,
                tiling=None if tile_size is None else Tiling(tile_size, tile_overlap),
                min_score=min_score,
                max_detections=max_detections,
                keep_images=writer is not None or labels.needs_pixels,
                on_tiles=progress.on_tiles,
                lazy_masks=True,
            )
            ends.callback(results.close)  # ends the threads that read ahead, also after an error
            for result in results:
                drawn, not_drawn = None, None
                if writer is not None:
                    writer.end_video(result.input)
                    if result.prediction is not None:
                        drawn, not_drawn = _draw(writer, result)
                decision = None
                if decider is not None and result.prediction is not None:
                    decision = decider(result.prediction)
                labels.add(result, decision)
                document = ""
                if as_json or file is not None:
                    document = json_line(
                        result, drawn, not_drawn, decision, mask_format=mask_format, all_masks=all_masks
                    )
                is_failed = result.error is not None or not_drawn is not None
                if file is not None:
                    file.add(result.input, document, failed=is_failed, drawn=drawn)
                sys.stdout.write((document if as_json else text_line(result, not_drawn, decision)) + "\n")
                sys.stdout.flush()  # the reader of a pipe gets each image when it is done
                counts.add(result, failed=is_failed)
                reused = 0 if file is None else file.reused
                progress.on_image(counts.done + counts.failed + reused, counts.failed)
            if writer is not None:
                writer.__exit__(None)  # the last video is complete before the file is
            if file is not None:
                file.finish()
            if counts.done:
                labels.finish()
    except BlemishError as error:
        if not counts.done:
            raise
        hint = "" if file is None else " Continue with --resume."
        typer.echo(f"blemish: stopped after {counts.done} images: {error}{hint}", err=True)
        raise typer.Exit(PARTLY_FAILED) from error
    except KeyboardInterrupt:
        if file is not None:
            typer.echo("blemish: continue this run with --resume", err=True)
        raise
    finally:
        for warning in counts.warnings():
            typer.echo(f"blemish: warning: {warning}", err=True)
        if passed_over.count:
            typer.echo(f"blemish: warning: {passed_over.sentence()}", err=True)
    if file is not None and file.reused:
        counts.done += file.reused - file.reused_failures
        counts.failed += file.reused_failures
        typer.echo(f"blemish: {file.reused} predictions of the interrupted run were used", err=True)
    if counts.failed:
        raise typer.Exit(PARTLY_FAILED if counts.done else ALL_FAILED)


class _Counts:
    """The numbers of images of this run.

    Attributes:
        done: images that succeeded.
        failed: images without a prediction, or without a drawing although one was requested.
    """

    def __init__(self) -> None:
        self.done = self.failed = self._suspicious = 0
        self._first_warning = ""

    def add(self, result: PredictionResult, *, failed: bool) -> None:
        """Count one result."""
        self.done += not failed
        self.failed += failed
        if result.warning:
            self._suspicious += 1
            self._first_warning = self._first_warning or f"{result.input}: {result.warning}"

    def warnings(self) -> Iterator[str]:
        """Yield what the user should know about all images together."""
        if self._suspicious:
            count = "1 image" if self._suspicious == 1 else f"{self._suspicious} images"
            yield (
                f"{count} may look nearly black to the model. {self._first_warning}. Name the value of white "
                "with --white-level."
            )


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
