"""`blemish demo`: every step once, on real images."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.errors import BadInput

if TYPE_CHECKING:
    from blemish.demo import DemoResult


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", file_okay=False, help="Folder for all files.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the split and of the training.")] = 0,
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            help="Fine-tune the network instead; needs the extra train (PyTorch) and takes several minutes. "
            "Repeat the command to continue an interrupted training.",
        ),
    ] = False,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="With --train: number of epochs.", show_default="the recipe's"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="default|none|FILE",
            help="With --train: initial weights: default (pretrained), none (random), or a file.",
            show_default="default",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="With --train: device of the network: auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
) -> None:
    """Train and evaluate a model on 2,624 images of solar cells (CC BY-NC-SA 4.0, non-commercial use only).

    The demo takes about a minute on two cores, without PyTorch: it fits a linear classifier on
    features of a pretrained network. It replaces the files of an earlier demo in the output folder.

    Examples:
      blemish demo

      blemish demo --train --epochs 7
    """
    from blemish.demo import run_demo, run_training_demo

    start = time.perf_counter()
    if train:
        result = run_training_demo(
            output,
            seed=seed,
            epochs=epochs,
            weights=weights,
            device=device,
            progress=True,
            report_step=typer.echo,
        )
    else:
        for name, given in (("--epochs", epochs), ("--weights", weights)):
            if given is not None:
                raise BadInput(f"{name} needs --train. Add it.", reason="option-needs-train")
        result = run_demo(output, seed=seed, report_step=typer.echo)
    _print_result(result, time.perf_counter() - start)


def _print_result(result: DemoResult, seconds: float) -> None:
    """Print the metrics on the test split, the paths of the files, and the next command."""
    from blemish.commands.evaluate_command import print_report

    typer.echo("")
    print_report(result.report)
    rows = {
        "weights": {"none": "random", "default": "pretrained"}.get(result.weights, result.weights),
        "model file": result.model,
        "report": result.report_page,
        "drawings": result.drawings[0].parent if result.drawings else "none",
        "heatmaps": result.heatmaps[0].parent if result.heatmaps else "none",
        "duration": f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes",
    }
    typer.echo("")
    for name, value in rows.items():
        typer.echo(f"{name:<13} {value}")
    blemish = "blemish" if sys.prefix == sys.base_prefix else Path(sys.executable).with_name("blemish")
    typer.echo(
        f"\nTo open the web page, run {_relative(blemish)} serve --model {result.model}\n"
        "and go to http://127.0.0.1:8000"
    )


def _relative(path: Path | str) -> str:
    """Return a path relative to the working directory if it is below it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)
