"""`blemish serve`: model files answered over HTTP, with a page for browsers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.shared_options import BackendOption, MegapixelsOption, ThreadsOption

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

RUNS = Path("runs")
_MOST_RUNS = 20


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]FILE",
            envvar="BLEMISH_MODEL",
            help="A model file or hf:// address, and the name it is served under; the first is the default.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(envvar="BLEMISH_HOST", help="Listen here; 0.0.0.0 for every address of the machine."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="BLEMISH_PORT", min=0, max=65535, help="0 takes any that is free.")
    ] = 8000,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Refuse larger uploads.")] = 32,
    max_megapixels: MegapixelsOption = 64,
    queue: Annotated[
        int, typer.Option(min=1, help="Images a model works or waits on at once; more get 429.")
    ] = 64,
    deadline_seconds: Annotated[float, typer.Option(min=0.1, help="Give up an answer after this.")] = 60,
    link_minutes: Annotated[
        float, typer.Option(min=0, help="How long the pictures of an answer can be opened; 0 makes none.")
    ] = 10,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep images and answers here; nothing by default."),
    ] = None,
    keep_hours: Annotated[
        float | None, typer.Option(help="Delete what is kept after this.", show_default=False)
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            envvar="BLEMISH_API_KEYS", metavar="FILE", help="Ask for an API key: a line NAME SHA256 for each."
        ),
    ] = None,
    new_api_key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print a new API key with its line for the file, and exit."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="BLEMISH_CORS_ORIGIN", help="Let pages of this origin call the service; once for each."
        ),
    ] = None,
    frame_ancestor: Annotated[
        list[str] | None,
        typer.Option(
            envvar="BLEMISH_FRAME_ANCESTOR", help="Let this origin show the page in a frame; once for each."
        ),
    ] = None,
) -> None:
    """Answer over HTTP, and show a page for browsers.

    Ctrl+C or SIGTERM finishes what has begun, then ends.
    """
    from blemish.service.api_keys import ApiKeys, new_key

    if new_api_key is not None:
        key, line = new_key(new_api_key)
        typer.echo(f"The key, shown this once:       {key}")
        typer.echo(f"Its line for the file of keys:  {line}")
        return
    named = dict(_named(model or ()))
    if not named:
        _offer(_runs(RUNS))
        raise typer.Exit(2)
    from blemish.service.server import listen, run  # noqa: I001  (says what is missing before anything is done)
    from blemish.service.app import create_app
    from blemish.service.settings import Settings

    settings = Settings(
        max_upload_bytes=int(max_megabytes * 1024 * 1024),
        max_pixels=int(max_megapixels * 1e6),
        queue_size=queue,
        deadline_seconds=deadline_seconds,
        link_seconds=link_minutes * 60,
        keep_folder=keep,
        keep_hours=keep_hours,
        cors_origins=tuple(cors_origin or ()),
        frame_ancestors=tuple(frame_ancestor or ()),
    )
    keys = None if api_keys is None else ApiKeys.from_file(api_keys)
    app = create_app(named, settings, keys=keys, backend=backend, threads=threads)
    listener = listen(host, port)
    typer.echo(
        f"blemish: serving {', '.join(named)} at {address(listener)} (the page; /docs lists the routes)"
    )
    if host not in ("127.0.0.1", "localhost", "::1") and keys is None:
        typer.echo(
            "blemish: anybody who reaches this address may use it; --api-keys asks for a key", err=True
        )
    run(app, listener)


def address(listener: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  (compared, not bound)
    return f"http://{host}:{port}/"


def _named(models: Sequence[str]) -> list[tuple[str, Path]]:
    """Name and path of each `--model`; a file without a name is called after its run or itself."""
    from blemish.errors import BadInput
    from blemish.hub import local_file

    out: list[tuple[str, Path]] = []
    for given in models:
        name, equals, path = given.partition("=")
        if not equals or any(c in name for c in "/\\:"):
            name, path = "", given
        file = local_file(path, explanation=True)
        if path.startswith("hf://"):
            name = name or path.removeprefix("hf://").partition("@")[0].split("/")[1]
        if file.is_dir() and (file / "model.onnx").is_file():
            file = file / "model.onnx"
        name = name or (file.parent.name if file.stem == "model" and file.parent.name else file.stem)
        if name in dict(out):
            raise BadInput(f"two models are called {name!r}; name them: --model NAME=FILE")
        out.append((name, file))
    return out


def _runs(folder: Path) -> list[Path]:
    """The model files of the runs below `folder`, the newest first."""
    found = [*folder.glob("*/model.onnx"), *folder.glob("*/*/model.onnx")]
    return sorted(found, key=lambda path: -path.stat().st_mtime)[:_MOST_RUNS]


def _offer(runs: Sequence[Path]) -> None:
    """Say what could be served."""
    from blemish.errors import BlemishError
    from blemish.model_file import read_model_file

    if not runs:
        typer.echo("blemish: no --model given and no run found in ./runs", err=True)
        typer.echo(
            "  blemish demo                   makes a model of 2,624 real solar cells in runs/demo", err=True
        )
        typer.echo("  blemish serve --model FILE     serves a model file of yours", err=True)
        return
    typer.echo("blemish: no --model given; these are in ./runs:", err=True)
    for path in runs:
        try:
            contract = read_model_file(path).contract
        except BlemishError:
            continue
        typer.echo(
            f"  blemish serve --model {path.as_posix()}   {contract.architecture}, {contract.task}", err=True
        )
    if not any("demo" in path.parts for path in runs):
        typer.echo("  blemish demo                   makes one of 2,624 real solar cells", err=True)
