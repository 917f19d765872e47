"""`blemish push`: publish a model file on the Hugging Face Hub, with a model card made from its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Model file to publish.", show_default=False)],
    repo_id: Annotated[
        str,
        typer.Option(
            "--repo-id",
            metavar="USER/NAME",
            help="Repository on the Hub; it is created if it does not exist.",
            show_default=False,
        ),
    ],
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
    """Publish a model file on the Hugging Face Hub.

    The file, its explanation graph, their digests and a model card are sent in one commit.

    Examples:
        blemish push runs/cars/model.onnx --repo-id ada/cars --card

        blemish push runs/cars/model.onnx --repo-id ada/cars --private
    """
    from blemish import hub
    from blemish.model_file import read_model_file

    if card:
        typer.echo(hub.model_card(read_model_file(file), repo_id))
        return
    url = hub.push(file, repo_id, private=private, message=message)
    typer.echo(f"{url}: use it with --model {hub.SCHEME}{repo_id}")
