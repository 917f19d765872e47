"""The command line `blemish COMMAND`: it finds the command, runs it and reports errors.

The commands are in `commands/` and in plug-ins. Only the command that was called is imported, so that
`blemish --help` and `blemish predict` do not pay for the others.
"""

from __future__ import annotations

import gc
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from blemish._version import __version__
from blemish.commands import BUILTIN, COMMANDS
from blemish.errors import BlemishError, MissingExtra
from blemish.registry import PluginWarning

# The extra that installs a package which a command may not find.
EXTRA_OF = {
    "torch": "train", "torchvision": "train", "lightning": "train", "timm": "train", "onnx": "train",
    "safetensors": "train", "jinja2": "eval", "matplotlib": "train", "fastapi": "serve",
    "uvicorn": "serve", "prometheus_client": "serve", "huggingface_hub": "hub", "openvino": "openvino",
    "av": "video", "ultralytics": "yolo", "rfdetr": "rfdetr", "segmentation_models_pytorch": "segment",
    "elpv_dataset": "demo", "sqlalchemy": "inspections", "alembic": "inspections", "fpdf": "inspections",
    "skimage": "measure", "psycopg": "postgresql",
}  # fmt: skip
OVERVIEW = """Find damage and defects in images: what, where, how certain, and why.

Start with [bold]blemish demo[/bold], or with your own images:

  blemish train --data photos/ --model resnet18 --output runs/cars

  blemish predict claims/ --model runs/cars/model.onnx --output drawn/

  blemish evaluate --model runs/cars/model.onnx --data photos/ --split test
"""
INTERRUPTED = 130  # the exit code of a process that Ctrl-C ended
# Typer 0.15 raises Click's errors, later versions their own copies of them; both are bases of this class.
_CLICK_ERRORS: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """Return the application with the called command imported, or else with one line for every command.

    Args:
        arguments: the arguments after `blemish`.
    """
    app = typer.Typer(
        name="blemish",
        help=OVERVIEW,
        rich_markup_mode="rich",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    called = arguments[0] if arguments else ""
    # A built-in command needs neither the overview nor the plug-ins.
    commands = {called: BUILTIN[called]} if called in BUILTIN else dict(COMMANDS.items())
    for name, command in commands.items():
        if name != called:
            app.command(name, help=command.summary)(_not_called)
            continue
        function = command.load()
        if isinstance(function, typer.Typer):
            for subcommand in function.registered_commands:
                subcommand.help = join_lines(subcommand.help or inspect.getdoc(subcommand.callback) or "")
            app.add_typer(function, name=name, help=command.summary)
        else:
            app.command(name, help=join_lines(inspect.getdoc(function) or ""))(function)
    return app


def join_lines(text: str) -> str:
    """Return a docstring with the lines of each paragraph joined, so that the terminal's width breaks them.

    Indented lines, such as examples, stay as they are.

    Example:
        >>> join_lines("One sentence\\non two lines.\\n\\nExamples:\\n  blemish demo\\n")
        'One sentence on two lines.\\n\\nExamples:\\n  blemish demo'
    """
    return re.sub(r"(?<=\S)\n(?=[^\s])", " ", text.strip())


def main() -> None:
    """Run the command line and exit.

    An error is one message on standard error and exit code 2. With `--json`, standard output gets the error
    as JSON too.
    """
    arguments = sys.argv[1:]
    if hasattr(sys.stdout, "reconfigure"):  # a label that the terminal cannot show must not stop the run
        sys.stdout.reconfigure(errors="backslashreplace")
    as_json = "--json" in arguments
    if arguments in ([], ["-h"], ["--help"]):
        gc.disable()  # 6 % of the time of the overview, which ends before it could need the memory
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warning_printer(warnings.showwarning)
            sys.exit(_run(arguments, as_json=as_json))
    finally:
        gc.enable()


def _run(arguments: list[str], *, as_json: bool) -> int:
    """Run one command and return its exit code."""
    try:
        code = build_app(arguments)(standalone_mode=not as_json)
        code = code if isinstance(code, int) else 0
        return _fail("interrupted", "interrupted", code, as_json=True) if code == INTERRUPTED else code
    except BlemishError as error:
        return _fail(error.code, str(error), 2, as_json=as_json)
    except _CLICK_ERRORS as error:  # an unknown option or a value of the wrong type; only with --json
        return _fail("usage", error.format_message(), error.exit_code, as_json=as_json)
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        missing = MissingExtra(extra, f"blemish {' '.join(arguments[:1])}")
        return _fail(missing.code, str(missing), 2, as_json=as_json)
    except BrokenPipeError:  # `blemish predict … | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", "interrupted", INTERRUPTED, as_json=as_json)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail("system", f"{where}{error.strerror or error}", 2, as_json=as_json)


def _fail(code: str, message: str, exit_code: int, *, as_json: bool) -> int:
    """Report an error and return the exit code."""
    typer.echo(f"blemish: {message}", err=True)
    if as_json:
        from blemish.commands.json_output import error_fields, print_json

        print_json(error_fields(code, message))
        sys.stdout.flush()
    return exit_code


def _warning_printer(show: Callable[..., None]) -> Callable[..., None]:
    """Return a function that prints a warning about a plug-in as one line, and any other with `show`."""

    def print_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
        if issubclass(category, PluginWarning):
            typer.echo(f"blemish: warning: {message}", err=True)
        else:
            show(message, category, *rest)

    return print_warning


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"blemish {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Declare the options that come before a command."""


def _not_called() -> None:
    """Take the place of a command that was not called."""


if __name__ == "__main__":
    main()
