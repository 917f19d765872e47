"""`blemish calibrate`: give a model file the scores from which `--risk` decides."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from blemish.commands.json_output import print_json
from blemish.commands.shared_options import (
    BackendOption,
    DataOption,
    FormatOption,
    ImagesOption,
    ThreadsOption,
)


def calibrate(
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="FILE", help="Model file.", show_default=False)
    ],
    data: DataOption,
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

    Training does this with its validation images. Use this command for a model file of an earlier version, or
    if images will come from other cameras or objects than those of the training. Images that the model was
    trained on are left out.

    Examples:
      blemish calibrate --model model.onnx --data labeled/ --output calibrated.onnx

      blemish predict photos/ --model calibrated.onnx --risk 0.05
    """
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
