"""`blemish train --task anomaly`: its options, its progress and its result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from blemish.commands.few_shot_output import print_torch_free_run
from blemish.commands.progress_line import TimedProgress
from blemish.errors import BadInput


def train_anomaly_command(
    *,
    data: Path | None,
    model: str | None,
    task: str | None,
    data_format: str | None,
    images: Path | None,
    input_size: int | None,
    weights: str | None,
    output: Path | None,
    false_alarms: float | None,
    seed: int | None,
    unused: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Run a training on good images and print its result.

    Args:
        data: the data set.
        model: "patch-memory", "gaussian", or either with "@" and a trunk; None for the first.
        task: of the model.
        data_format: of the data; None to detect it.
        images: folder of the images.
        input_size: of the network, pixels; None for the default.
        weights: "default", or a file.
        output: folder of the run.
        false_alarms: the stated rate; None for the default.
        seed: None for 0.
        unused: by option, values that must not be set.
        as_json: whether to print JSON.
    """
    from blemish.few_shot import require_packages

    require_packages()
    from blemish.few_shot.anomaly_trainer import (
        ARCHITECTURES,
        DEFAULT_FALSE_ALARMS,
        DEFAULT_INPUT_SIZE,
        DEFAULT_TRUNK,
        train_anomaly,
    )

    for option, value in unused.items():
        if value is not None and value is not False and value != []:
            raise BadInput(
                f"{option} has no meaning with --task {task}, which trains no network. Remove {option}.",
                reason="option-with-task",
            )
    if data is None:
        raise BadInput("no data. Give --data PATH, a folder of good images.", reason="no-data")
    if weights == "none":
        raise BadInput(
            f"--task {task} needs pretrained weights. Remove --weights none.", reason="option-with-task"
        )
    name, _, trunk = (model or ARCHITECTURES[0]).partition("@")
    run = train_anomaly(
        data,
        output=output or Path("runs") / f"anomaly-{name}",
        model=name,
        trunk=trunk or DEFAULT_TRUNK,
        input_size=input_size or DEFAULT_INPUT_SIZE,
        false_alarms=DEFAULT_FALSE_ALARMS if false_alarms is None else false_alarms,
        format=data_format,
        images=images,
        seed=seed or 0,
        weights=Path(weights) if weights not in (None, "default") else None,
        stage=None if as_json else lambda stage: typer.echo(f"{stage} …", err=True),
        progress=None if as_json else TimedProgress(),
    )
    from blemish.model_file import read_model_file

    threshold = read_model_file(run.model_file).contract.training["threshold"]
    low, high = threshold["interval"]
    line = (
        f"threshold              at most {threshold['false_positive_rate']:.1%} false positives, chosen on "
        f"{threshold['good_images']} good images; the rate of this threshold is between {low:.1%} and "
        f"{high:.1%} with a probability of 95 %"
    )
    print_torch_free_run(run, {"threshold": threshold}, [line], as_json=as_json)
