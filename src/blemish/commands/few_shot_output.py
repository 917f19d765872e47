"""The result of a training without PyTorch, as text or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import typer

from blemish.commands.json_output import print_json
from blemish.structures import Dataset


class TorchFreeRun(Protocol):
    """What every training without PyTorch returns."""

    @property
    def folder(self) -> Path:
        """The run's folder."""

    @property
    def model_file(self) -> Path:
        """The model file in it."""

    @property
    def dataset(self) -> Dataset:
        """Every image, in a split."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Of the validation images."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """By stage."""


def print_torch_free_run(
    run: TorchFreeRun, fields: Mapping[str, Any], lines: Sequence[str] = (), *, as_json: bool
) -> None:
    """Print the result of a training.

    Args:
        run: the training.
        fields: further values for JSON.
        lines: further lines of text, after the metrics.
        as_json: whether to print JSON.
    """
    metrics = {k: v for k, v in run.metrics.items() if k in run.dataset.task.fields.summary_metrics}
    if as_json:
        print_json(
            {
                "run": run.folder.as_posix(),
                "model_file": run.model_file.as_posix(),
                "task": str(run.dataset.task),
                "images": run.dataset.splits,
                "metrics": metrics,
                **fields,
                "seconds": dict(run.seconds),
            }
        )
        return
    counts = ", ".join(f"{count} {split}" for split, count in run.dataset.splits.items())
    typer.echo(f"{len(run.dataset)} images: {counts}")
    for metric, value in metrics.items():
        typer.echo(f"val {metric:<18} {value:.3f}")
    for line in lines:
        typer.echo(line)
    typer.echo(f"model file             {run.model_file}")
    typer.echo(f"duration               {sum(run.seconds.values()):.0f} s")
