"""`blemish push`: publish a model file on the Hugging Face Hub, or register it in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Model file to publish.", show_default=False)],
    repo_id: Annotated[
        str | None,
        typer.Option(
            "--repo-id",
            metavar="USER/NAME",
            help="Repository on the Hub; it is created if it does not exist.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="mlflow:NAME for a model in the registry at MLFLOW_TRACKING_URI, or hf://USER/NAME.",
            show_default=False,
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Create the repository as a private one.")
    ] = False,
    message: Annotated[
        str, typer.Option(help="Commit message.", show_default="Add, and the model's name")
    ] = "",
    card: Annotated[
        bool, typer.Option("--card", help="Print the model card without sending anything.")
    ] = False,
) -> None:
    """Publish a model file on the Hugging Face Hub, or register it in MLflow.

    On the Hub, the file, its explanation graph, their digests and a model card are sent in one commit. In
    MLflow, they become a new version with the contract as signature; it loads without PyTorch.

    Examples:
        blemish push runs/cars/model.onnx --repo-id ada/cars --card

        blemish push runs/cars/model.onnx --repo-id ada/cars --private

        blemish push runs/cars/model.onnx --to mlflow:cars
    """
    from blemish import hub
    from blemish.errors import BadInput
    from blemish.model_file import read_model_file

    if (repo_id is None) == (to is None):
        raise BadInput(
            "expected one target: --to mlflow:NAME, or --repo-id USER/NAME for the Hugging Face Hub",
            reason="push-target",
        )
    if to is not None and to.startswith(hub.MLFLOW_SCHEME):
        unused = {"--private": private, "--message": message, "--card": card}
        if given := [name for name, value in unused.items() if value]:
            raise BadInput(f"{given[0]} belongs to the Hugging Face Hub. Remove it", reason="push-option")
        address = hub.register(file, to.removeprefix(hub.MLFLOW_SCHEME))
        typer.echo(f"{address}: use it with --model {address}")
        return
    if to is not None and not to.startswith(hub.SCHEME):
        raise BadInput(f"--to {to}: expected mlflow:NAME or hf://USER/NAME", reason="push-target")
    repository = (repo_id or to or "").removeprefix(hub.SCHEME)
    if card:
        typer.echo(hub.model_card(read_model_file(file), repository))
        return
    url = hub.push(file, repository, private=private, message=message)
    typer.echo(f"{url}: use it with --model {hub.SCHEME}{repository}")
