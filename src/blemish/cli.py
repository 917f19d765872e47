"""The command line: `blemish VERB`. Every verb lives in `commands/`; here they meet, and errors are told.

Only the verb that was called is imported, so that `blemish --help` and `blemish predict` start without
paying for the others.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from blemish._version import __version__
from blemish.errors import BlemishError, MissingExtra

# verb: (module below blemish.commands, attribute, one line for the overview)
VERBS: dict[str, tuple[str, str, str]] = {
    "demo": ("demo_command", "demo", "Train, measure and explain a model on 2,624 real solar cells."),
    "data": ("data_command", "app", "Labelled images: check, stats, preview, split, convert, ..."),
    "train": ("train_command", "train", "From labelled images to a measured model file."),
    "predict": ("predict_command", "predict", "Look at images with a model file."),
    "evaluate": ("evaluate_command", "evaluate", "Measure a model file on labelled images."),
    "explain": ("explain_command", "explain", "Show what a model looked at."),
    "serve": ("serve_command", "serve", "A REST service and a page for browsers."),
    "models": ("models_command", "models", "The architectures that can be trained."),
    "info": ("info_command", "info", "What a model file is, and what was promised of it."),
    "export": ("export_command", "export", "Write a run's or file's model again, in another precision."),
    "import": ("import_command", "import_model", "Make a model file of weights that were trained elsewhere."),
    "push": ("push_command", "push", "Publish a model file on the Hugging Face Hub."),
    "benchmark": (
        "benchmark_command",
        "benchmark",
        "How fast a model file is on this machine, stage by stage.",
    ),
    "compare": ("compare_command", "compare", "Model files side by side on the same images."),
}
# which extra brings a package that a verb may find missing
EXTRA_OF = {
    "torch": "train", "torchvision": "train", "lightning": "train", "timm": "train", "onnx": "train",
    "safetensors": "train", "jinja2": "eval", "matplotlib": "train", "fastapi": "serve",
    "uvicorn": "serve", "huggingface_hub": "hub", "openvino": "openvino", "av": "video",
    "ultralytics": "yolo", "rfdetr": "rfdetr", "segmentation_models_pytorch": "segment",
    "elpv_dataset": "demo",
}  # fmt: skip
OVERVIEW = """Finds damage and defects in images: what, where, how sure, and why.

Start with [bold]blemish demo[/bold], or with images of your own:

  blemish train --data photos/ --model resnet18 --output runs/cars

  blemish predict claims/ --model runs/cars/model.onnx --output drawn/

  blemish evaluate --model runs/cars/model.onnx --data photos/ --split test
"""


def build(arguments: Sequence[str]) -> typer.Typer:
    """The command line, with the verb that `arguments` name imported and the others as their one line."""
    app = typer.Typer(
        name="blemish",
        help=OVERVIEW,
        rich_markup_mode="rich",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    called = next((a for a in arguments if not a.startswith("-")), None)
    for verb, (module, attribute, line) in VERBS.items():
        if verb != called:
            app.command(verb, help=line)(_not_called)
            continue
        command = getattr(importlib.import_module(f"blemish.commands.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=verb, help=line)
        else:
            app.command(verb)(command)
    return app


def main() -> None:
    """Run the command line; an error is one sentence on standard error, with exit code 2."""
    arguments = sys.argv[1:]
    if hasattr(sys.stdout, "reconfigure"):  # names that the terminal cannot show must not stop the run
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        build(arguments)()
    except BlemishError as error:
        _say(str(error))
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _say(str(MissingExtra(extra, f"blemish {' '.join(arguments[:1])}")))
        sys.exit(2)
    except BrokenPipeError:  # `blemish predict … | head`: whoever was reading has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(130)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{error.strerror or error}")
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"blemish {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Hold the options that stand before a verb."""


def _not_called() -> None:
    """Stand in for a verb in the overview."""


def _say(sentence: str) -> None:
    typer.echo(f"blemish: {sentence}", err=True)


if __name__ == "__main__":
    main()
