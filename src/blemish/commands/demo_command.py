"""`blemish demo`: every step once, on real images."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.progress_line import show_progress
from blemish.errors import BadInput, MissingExtra

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
    open_page: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            help="Serve the web page with the model and the six drawn cells, and open it in the browser.",
            show_default="--open on a terminal with a display",
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

    if open_page is None:
        open_page = sys.stdout.isatty() and has_browser() and importlib.util.find_spec("uvicorn") is not None
    elif open_page and importlib.util.find_spec("uvicorn") is None:
        raise MissingExtra("serve", "blemish demo --open")  # before any work
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
        result = run_demo(output, seed=seed, report_step=typer.echo, report_progress=show_progress)
    _print_result(result, time.perf_counter() - start)
    if open_page:
        _serve(result)


def has_browser(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> bool:
    """Return whether a browser can show a page: there is a display, and no continuous-integration job.

    Args:
        environment: variables of the process.
        platform: as in `sys.platform`.
    """
    if environment.get("CI") or environment.get("SSH_CONNECTION"):
        return False
    has_display = platform in ("win32", "darwin") or bool(
        environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    )
    if not has_display:
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def _serve(result: DemoResult) -> None:
    """Serve the page with the demo's images, open it in the browser, and return after Ctrl+C."""
    from blemish.commands.serve_command import browser_address
    from blemish.service.app import create_app
    from blemish.service.server import listen, run
    from blemish.service.settings import Settings

    app = create_app({result.name: result.model}, Settings(sample_images=result.images))
    listener = listen("127.0.0.1", 0)
    address = f"{browser_address(listener)}#samples"
    typer.echo(f"\nserving {result.name} at {address} (Ctrl+C ends it)")
    # The socket listens already: the browser waits until the server accepts.
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    run(app, listener)


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
        f"\nTo open the web page later, run {_relative(blemish)} serve --model {result.name}={result.model}\n"
        "and go to http://127.0.0.1:8000"
    )


def _relative(path: Path | str) -> str:
    """Return a path relative to the working directory if it is below it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)
