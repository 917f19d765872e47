"""`blemish demo`: every step once, on real images."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from blemish.demo import DemoResult


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for all files.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the split and of the training.")] = 0,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of epochs.", show_default="the recipe's"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="default|none|FILE",
            help="Initial weights.",
            show_default="pretrained, or random if they cannot be downloaded",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Train and evaluate a model on 2,624 images of solar cells (CC BY-NC-SA 4.0, non-commercial use only).

    The demo takes a few minutes on two cores. It replaces the files of an earlier demo in the output folder.
    """
    from blemish.demo import run_demo

    start = time.perf_counter()
    result = run_demo(
        output,
        seed=seed,
        epochs=epochs,
        weights=weights,
        device=device,
        progress=True,
        report_step=typer.echo,
    )
    _print_result(result, time.perf_counter() - start)


def _print_result(result: DemoResult, seconds: float) -> None:
    """Print the metrics on the test split, the paths of the files, and the next command."""
    from blemish.commands.evaluate_command import print_report

    typer.echo("")
    print_report(result.report)
    rows = {
        "weights": "random" if result.weights == "none" else "pretrained",
        "model file": result.model,
        "report": result.report_page,
        "drawings": result.drawings[0].parent if result.drawings else "none",
        "duration": f"{seconds / 60:.1f} minutes",
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
