"""`blemish demo`: the whole way once, on real images."""

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
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where everything goes.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the split and of the training.")] = 0,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="The recipe's where not given.", show_default=False)
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="default|none|FILE",
            help="What training starts from; random weights where there is no network.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Train, measure and try a model on 2,624 real solar cells (CC BY-NC-SA 4.0, for non-commercial use).

    Takes a few minutes on two cores. What an earlier demonstration left in DIR is replaced.
    """
    from blemish.demo import demonstrate

    began = time.perf_counter()
    shown = demonstrate(
        output,
        seed=seed,
        epochs=epochs,
        weights=weights,
        device=device,
        progress=True,
        say=lambda sentence: typer.echo(sentence),
    )
    _tell(shown, time.perf_counter() - began)


def _tell(shown: DemoResult, seconds: float) -> None:
    """The figures on the held-out quarter, where things are, and what to do next."""
    from blemish.commands.evaluate_command import print_report

    typer.echo("")
    print_report(shown.report)
    start = "random weights" if shown.weights == "none" else "pretrained weights"
    rows = {
        "started from": start,
        "model file": shown.model,
        "report": shown.report_page,
        "drawn": shown.drawings[0].parent if shown.drawings else "nothing",
        "took": f"{seconds / 60:.1f} minutes",
    }
    typer.echo("")
    for name, value in rows.items():
        typer.echo(f"{name:<13} {value}")
    blemish = "blemish" if sys.prefix == sys.base_prefix else Path(sys.executable).with_name("blemish")
    typer.echo(
        f"\nNow open the page: {_short(blemish)} serve --model {shown.model}\nthen http://127.0.0.1:8000"
    )


def _short(path: Path | str) -> str:
    """A path as seen from here, where that is shorter."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)
