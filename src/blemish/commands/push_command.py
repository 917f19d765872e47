"""`blemish push`: a model file on the Hugging Face Hub, with a card written from its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The model file.", show_default=False)],
    to: Annotated[
        str, typer.Option("--to", metavar="USER/NAME", help="The repository; made where it is missing.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "",
    card: Annotated[bool, typer.Option("--card", help="Print the model card, and send nothing.")] = False,
) -> None:
    """Put a model file on the Hugging Face Hub.

    The file, its explanation graph, their digests and a model card go up in one commit.
    """
    from blemish import hub
    from blemish.model_file import read_model_file

    if card:
        typer.echo(hub.model_card(read_model_file(file), to))
        return
    url = hub.push(file, to, private=private, message=message)
    typer.echo(f"{url}: use it with --model {hub.SCHEME}{to}")
