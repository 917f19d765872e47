"""`blemish train --few`: its options, its progress and its result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from blemish.commands.few_shot_output import print_torch_free_run
from blemish.commands.progress_line import show_progress
from blemish.errors import BadInput


def train_few_command(
    *,
    data: Path | None,
    model: str | None,
    task: str | None,
    data_format: str | None,
    images: Path | None,
    input_size: int | None,
    weights: str | None,
    output: Path | None,
    seed: int | None,
    unused: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Run `train --few` and print its result.

    Args:
        data: the data set.
        model: "efficientnet-lite0", "efficientnet-lite1" or "efficientnet-lite2"; None for the first.
        task: of the model; None for the task of the data.
        data_format: of the data; None to detect it.
        images: folder of the images.
        input_size: of the network, pixels; None for the default.
        weights: "default", or a file.
        output: folder of the run.
        seed: None for 0.
        unused: by option, values that must not be set.
        as_json: whether to print JSON.
    """
    from blemish.few_shot import require_packages

    require_packages()
    from blemish.few_shot.few_shot_trainer import DEFAULT_INPUT_SIZE, DEFAULT_MODEL, train_few
    from blemish.pretrained import PRETRAINED

    for name, value in unused.items():
        if value is not None and value is not False and value != []:
            raise BadInput(
                f"{name} has no meaning with --few, which fits a linear classifier on frozen features. "
                f"Remove {name}, or train a network without --few.",
                reason="option-with-few",
            )
    if data is None:
        raise BadInput("no data. Give --data PATH.", reason="no-data")
    if weights == "none":
        raise BadInput("--few needs pretrained weights. Remove --weights none.", reason="option-with-few")
    name = model or DEFAULT_MODEL
    if name not in PRETRAINED:
        raise BadInput(
            f"--model {name}: --few takes {', '.join(PRETRAINED)}. Choose one of them, or remove --few.",
            reason="model-with-few",
        )
    run = train_few(
        data,
        output=output or Path("runs") / f"few-{name}",
        model=name,
        input_size=input_size or DEFAULT_INPUT_SIZE,
        task=task,
        format=data_format,
        images=images,
        seed=seed or 0,
        weights=Path(weights) if weights not in (None, "default") else None,
        stage=None if as_json else lambda stage: typer.echo(f"{stage} …", err=True),
        progress=None if as_json else show_progress,
    )
    print_torch_free_run(run, {"strength": run.strength}, as_json=as_json)
