"""`blemish serve`: start the REST service and its web page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.shared_options import (
    BackendOption,
    CaptureOption,
    MegapixelsOption,
    RiskOption,
    ThreadsOption,
    WhiteLevelOption,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

RUNS = Path("runs")
_MAX_RUNS = 20


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="[NAME=]FILE",
            envvar="BLEMISH_MODEL",
            help="Model file or hf:// address, with the name to serve it under; repeat the option for "
            "several models. The first one is the default.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(envvar="BLEMISH_HOST", help="Address to listen on; 0.0.0.0 for all of this machine."),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="BLEMISH_PORT", min=0, max=65535, help="Port; 0 selects a free one.")
    ] = 8000,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, help="Maximum size of an uploaded image file.")
    ] = 32,
    max_megapixels: MegapixelsOption = 64,
    white_level: WhiteLevelOption = None,
    risk: RiskOption = None,
    capture_check: CaptureOption = True,
    queue_size: Annotated[
        int,
        typer.Option(
            min=1, help="Maximum number of images a model processes or queues; more get status 429."
        ),
    ] = 64,
    deadline_seconds: Annotated[
        float, typer.Option(min=0.1, help="Maximum time from the end of an upload to its answer.")
    ] = 60,
    link_seconds: Annotated[
        float, typer.Option(min=0, help="Lifetime of the image links in an answer; 0 gives no links.")
    ] = 600,
    links_require_key: Annotated[
        bool,
        typer.Option(
            "--links-require-key",
            help="Answer the image links in an answer only with the API key that got the answer.",
        ),
    ] = False,
    heatmap_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Maximum time for one heatmap, with its time in the queue; 0 gives no heatmaps. The page "
            "offers heatmaps only of models that are fast enough.",
        ),
    ] = 20,
    heatmap_method: Annotated[
        str | None,
        typer.Option(
            help="Explanation method of the heatmaps, such as occlusion, or that of a plug-in.",
            show_default="that of the model file, else occlusion",
        ),
    ] = None,
    inspections: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="BLEMISH_STORE",
            help="Serve the store of inspections in this directory; it is created if it does not exist.",
            show_default="no inspections",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="BLEMISH_DATABASE",
            help="With --inspections: PostgreSQL database of the store.",
            show_default="a SQLite file in the directory",
        ),
    ] = None,
    store_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Store images and answers in this directory.",
            show_default="nothing is stored",
        ),
    ] = None,
    retention_hours: Annotated[
        float | None,
        typer.Option(help="Delete stored images and answers after this time.", show_default=False),
    ] = None,
    max_store_megabytes: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Maximum size of all stored images and answers; the oldest are deleted first.",
            show_default="no limit",
        ),
    ] = None,
    ready_requires_store: Annotated[
        bool,
        typer.Option(
            "--ready-requires-store",
            help="Answer health/ready with 503 while images and answers cannot be stored.",
        ),
    ] = False,
    watch_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            help="Check the model files for changes at this interval, and load those that changed; a"
            " file that cannot be served leaves the model before it in place.",
            show_default="they are loaded once",
        ),
    ] = None,
    label_studio_root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="For the machine learning backend of Label Studio: the folder of its local files.",
            show_default="no files",
        ),
    ] = None,
    label_studio_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="For the machine learning backend of Label Studio: the server from which images are fetched,"
            " with the token in LABEL_STUDIO_API_KEY.",
            show_default="no server",
        ),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            envvar="BLEMISH_API_KEYS",
            metavar="FILE",
            help="Require an API key; FILE has one line NAME SHA256 for each key.",
        ),
    ] = None,
    new_api_key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print a new API key with its line for the file, and exit."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="BLEMISH_CORS_ORIGIN",
            help="Origin whose pages may call the service from a browser; repeat the option for several.",
        ),
    ] = None,
    frame_ancestor: Annotated[
        list[str] | None,
        typer.Option(
            envvar="BLEMISH_FRAME_ANCESTOR",
            help="Origin that may show the page in a frame; repeat the option for several.",
        ),
    ] = None,
) -> None:
    """Start the REST service and its web page.

    Ctrl+C or SIGTERM finishes the requests in progress, then stops.

    Examples:
      blemish serve --model runs/cars/model.onnx

      blemish serve --model dents=dents.onnx --model views=views.onnx --port 9000

      blemish serve --model cars.onnx --store-dir stored/ --retention-hours 24

      blemish serve --new-api-key claims
    """
    from blemish.errors import BadInput
    from blemish.service.api_keys import ApiKeys, new_key

    if new_api_key is not None:
        key, line = new_key(new_api_key)
        typer.echo(f"Key (printed only once):   {key}")
        typer.echo(f"Line for the key file:     {line}")
        return
    models = dict(_named_files(model or ()))
    if not models:
        _print_suggestions(_find_runs(RUNS))
        raise typer.Exit(2)
    from blemish.service.server import listen, run  # noqa: I001  (reports a missing extra before any work)
    from blemish.service.app import create_app
    from blemish.service.settings import Settings

    settings = Settings(
        max_upload_bytes=int(max_megabytes * 1024 * 1024),
        max_pixels=int(max_megapixels * 1e6),
        white_level=white_level,
        risk=risk,
        check_capture=capture_check,
        queue_size=queue_size,
        deadline_seconds=deadline_seconds,
        link_seconds=link_seconds,
        links_require_key=links_require_key,
        heatmap_seconds=heatmap_seconds,
        heatmap_method=heatmap_method,
        store_dir=store_dir,
        retention_hours=retention_hours,
        max_store_bytes=None if max_store_megabytes is None else int(max_store_megabytes * 1024 * 1024),
        ready_requires_store=ready_requires_store,
        watch_seconds=watch_seconds,
        label_studio_root=label_studio_root,
        label_studio_url=label_studio_url,
        cors_origins=tuple(cors_origin or ()),
        frame_ancestors=tuple(frame_ancestor or ()),
    )
    if links_require_key and api_keys is None:
        raise BadInput(
            "--links-require-key: expected --api-keys FILE beside it. Set the keys that the links require.",
            reason="api-keys",
        )
    keys = None if api_keys is None else ApiKeys.from_file(api_keys)
    if database is not None and inspections is None:
        raise BadInput("--database: expected --inspections DIR beside it.", reason="database-without-store")
    store = None
    if inspections is not None:
        from blemish.inspections.store import InspectionStore

        store = InspectionStore.open(inspections, database=database, create=True)
    app = create_app(models, settings, keys=keys, inspections=store, backend=backend, threads=threads)
    listener = listen(host, port)
    typer.echo(
        f"blemish: serving {', '.join(models)} at {browser_address(listener)} (page; /docs lists the routes)"
    )
    if host not in ("127.0.0.1", "localhost", "::1") and keys is None:
        typer.echo(
            "blemish: warning: every client that reaches this address can use it; --api-keys requires a key",
            err=True,
        )
    run(app, listener)


def browser_address(listener: socket.socket) -> str:
    """Return the URL at which a browser on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  (compared, not bound)
    return f"http://{host}:{port}/"


def _named_files(models: Sequence[str]) -> list[tuple[str, Path]]:
    """Return the name and the path of each `--model`; the default name is that of the run or of the file.

    Raises:
        BadInput: two models have the same name.
    """
    from blemish.errors import BadInput
    from blemish.hub import MLFLOW_SCHEME, MlflowAddress, local_file

    named: list[tuple[str, Path]] = []
    for argument in models:
        name, equals, path = argument.partition("=")
        if not equals or any(c in name for c in "/\\:"):
            name, path = "", argument
        file = local_file(path, explanation=True)
        if path.startswith("hf://"):
            name = name or path.removeprefix("hf://").partition("@")[0].split("/")[1]
        if path.startswith(MLFLOW_SCHEME):
            name = name or MlflowAddress.parse(path).name
        if file.is_dir() and (file / "model.onnx").is_file():
            file = file / "model.onnx"
        name = name or (file.parent.name if file.stem == "model" and file.parent.name else file.stem)
        if name in dict(named):
            raise BadInput(
                f"--model: expected different names, got {name!r} twice. Name each model: --model NAME=FILE.",
                reason="duplicate-model-name",
            )
        named.append((name, file))
    return named


def _find_runs(folder: Path) -> list[Path]:
    """Return the model files of the runs below `folder`, newest first."""
    files = [*folder.glob("*/model.onnx"), *folder.glob("*/*/model.onnx")]
    return sorted(files, key=lambda path: -path.stat().st_mtime)[:_MAX_RUNS]


def _print_suggestions(runs: Sequence[Path]) -> None:
    """Print the commands that serve the model files of these runs."""
    from blemish.errors import BlemishError
    from blemish.model_file import read_model_file

    if not runs:
        typer.echo("blemish: --model: expected a model file, and ./runs contains no run", err=True)
        typer.echo(
            "  blemish demo                   trains a model on 2,624 images of solar cells in runs/demo",
            err=True,
        )
        typer.echo("  blemish serve --model FILE     serves a model file", err=True)
        return
    typer.echo("blemish: --model: expected a model file. The runs in ./runs are:", err=True)
    for path in runs:
        try:
            contract = read_model_file(path).contract
        except BlemishError:
            continue
        typer.echo(
            f"  blemish serve --model {path.as_posix()}   {contract.architecture}, {contract.task}", err=True
        )
    if not any("demo" in path.parts for path in runs):
        typer.echo(
            "  blemish demo                   trains one on 2,624 images of solar cells in runs/demo",
            err=True,
        )
