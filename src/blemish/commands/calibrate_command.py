"""`blemish calibrate`: store what a model file decides by: scores for `--risk`, or limits of usual images."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from blemish.commands.json_output import print_json
from blemish.commands.shared_options import (
    BackendOption,
    FormatOption,
    ImagesOption,
    ThreadsOption,
)


def calibrate(
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="FILE", help="Model file.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            metavar="PATH",
            help="Labeled images, from whose scores --risk decides: a folder, or a label file.",
            show_default="no scores are stored",
        ),
    ] = None,
    capture_images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Usual images without labels, from which the limits of blur, exposure and the like are "
            "learned: a folder, glob pattern or file; can be repeated.",
            show_default="no limits are stored",
        ),
    ] = None,
    capture_rate: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="With --capture-images: share of usual images that may have each fault.",
            show_default="0.005",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the data; all uses every image.", show_default="val if there is one, else all"
        ),
    ] = None,
    images: ImagesOption = None,
    data_format: FormatOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Model file to write.",
            show_default="the model file itself",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the choice of one image per group.")] = 0,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Store the scores of labeled images in a model file, so that it can decide at a risk or cost.

    Or store the limits of usual images, beyond which an image should be taken again. Training does both, the
    first with its validation images and the second with its training images. Use this command for a model
    file of an earlier version, or if images will come from other cameras or objects than those of the
    training. Of labeled images, those that the model was trained on are left out.

    Examples:
      blemish calibrate --model model.onnx --data labeled/ --output calibrated.onnx

      blemish predict photos/ --model calibrated.onnx --risk 0.05

      blemish calibrate --model model.onnx --capture-images photos/
    """
    from blemish.errors import BadInput

    if data is None and not capture_images:
        raise BadInput(
            "calibrate: expected --data PATH with labeled images, or --capture-images PATH with usual images",
            reason="nothing-to-calibrate",
        )
    if data is None:
        _refuse_options("--data", {"--split": split, "--images": images, "--format": data_format})
        _learn_capture(model, capture_images or [], capture_rate, output, as_json=as_json)
        return
    _refuse_options("--capture-images", {"--capture-rate": None if capture_images else capture_rate})
    if capture_images:
        raise BadInput(
            "calibrate: --data and --capture-images exclude each other. Run the command twice.",
            reason="calibrate-twice",
        )
    from blemish.abstention import coverage_interval
    from blemish.commands.evaluate_command import progress_bar
    from blemish.evaluation.calibrate_model import calibrate as run
    from blemish.evaluation.calibrate_model import side_counts

    with progress_bar("Predicting", visible=sys.stderr.isatty()) as progress:
        result = run(
            model,
            data,
            split=split,
            output=output,
            format=data_format,
            images=images,
            seed=seed,
            backend=backend,
            threads=threads,
            progress=progress,
        )
    scores = result.scores
    rows = [
        {
            "label": label,
            "side": side,
            "images": count,
            "coverage_at_0.05": list(coverage_interval(count, 0.05)),
        }
        for label, side, count in side_counts(scores)
    ]
    if as_json:
        print_json(
            {
                "model_file": result.model_file.path.as_posix(),
                "images": scores.images,
                "groups": scores.groups,
                "excluded_training_images": result.excluded,
                "unreadable": result.unreadable,
                "calibration": rows,
                "warnings": list(result.warnings),
            }
        )
        return
    for warning in result.warnings:
        typer.echo(f"blemish: warning: {warning}", err=True)
    if result.excluded:
        typer.echo(f"blemish: {result.excluded} images of the model's training set were left out", err=True)
    typer.echo(f"{scores.images} images of {scores.groups} groups")
    for row in rows:
        if row["images"]:
            low, high = coverage_interval(int(str(row["images"])), 0.05)
            text = f"the coverage is {low:.3f} to {high:.3f} (95 % finite-sample interval)"
            if low == high:
                text = "too few to exclude this side"
            typer.echo(f"{row['label']}, {row['side']}: {row['images']} images; at --risk 0.05 {text}")
    typer.echo(f"model file {result.model_file.path}")


def _refuse_options(owner: str, options: Mapping[str, object]) -> None:
    """Refuse options that have no effect without another one, which is missing."""
    from blemish.errors import BadInput

    for name, value in options.items():
        if value is not None:
            raise BadInput(
                f"calibrate: {name} belongs to {owner}. Add {owner}, or remove it.",
                reason="calibrate-options",
            )


def _learn_capture(
    model: str, images: list[str], rate: float | None, output: Path | None, *, as_json: bool
) -> None:
    """Store the limits of usual images, and print what was learned."""
    from blemish.capture import DEFAULT_RATE
    from blemish.commands.evaluate_command import progress_bar
    from blemish.evaluation.capture_calibration import calibrate_capture

    with progress_bar("Measuring", visible=sys.stderr.isatty()) as progress:
        result = calibrate_capture(
            model, images, rate=DEFAULT_RATE if rate is None else rate, output=output, progress=progress
        )
    limits = result.limits
    if as_json:
        print_json(
            {
                "model_file": result.model_file.path.as_posix(),
                "unreadable": result.unreadable,
                "capture": limits.model_dump(mode="json"),
            }
        )
        return
    if result.unreadable:
        typer.echo(f"blemish: warning: {result.unreadable} images could not be read", err=True)
    typer.echo(
        f"limits of {limits.images} usual images, {limits.flagged:.1%} of which are beyond one of them "
        f"(rate {limits.rate:g} for each fault)"
    )
    for limit in limits.limits:
        typer.echo(f"{limit.measure} {limit.side} {limit.value:g}")
    typer.echo(f"model file {result.model_file.path}")
