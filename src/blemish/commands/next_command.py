"""`blemish data next`: propose the images to label next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.commands.data_options import JsonOption
from blemish.commands.json_output import print_json
from blemish.commands.shared_options import BackendOption, ThreadsOption


def next_images(
    images: Annotated[
        list[str], typer.Argument(metavar="DIR", help="Folders or files of images.", show_default=False)
    ],
    model: Annotated[
        Path,
        typer.Option("--model", "-m", metavar="FILE", help="Model file trained so far.", show_default=False),
    ],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 50,
    labeled: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Labeled images: they are left out, and similar ones come later."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the paths to a file, one a line."),
    ] = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Propose the images to label next: those the model is unsure of or does not know, unlike each other.

    Examples:
      blemish data next photos/ --model runs/cells/model.onnx --count 50

      blemish data next photos/ --model runs/cells/model.onnx --labeled labels.csv --output next.txt
    """
    from blemish.commands.progress_line import show_progress
    from blemish.inference import load
    from blemish.inference.label_selection import select_images
    from blemish.inference.sources import find_paths
    from blemish.model_file import write_atomically

    paths = list(dict.fromkeys(find_paths(images)))
    known: list[Path] = []
    if labeled is not None:
        from blemish.data import open_dataset

        by_file = {path.resolve(): path for path in paths}
        known = [
            by_file.get(s.path.resolve(), s.path) for s in open_dataset(labeled) if s.ground_truth is not None
        ]
    seen = set(known)
    candidates = [path for path in paths if path not in seen]
    total = len(known) + len(candidates)
    selection = select_images(
        load(model, backend=backend, threads=threads),
        candidates,
        count,
        labeled=known,
        progress=lambda done: show_progress("images", done, total),
    )
    for path, error in selection.failed:
        typer.echo(f"blemish: {path}: left out: {error}", err=True)
    if output is not None:
        write_atomically(output, "".join(f"{image.path}\n" for image in selection.images).encode())
    if as_json:
        failed = [{"path": path.as_posix(), "code": error.code} for path, error in selection.failed]
        fields = {"features": selection.features, "failed": failed}
        print_json({**fields, "images": [image.to_dict() for image in selection.images]}, indent=2)
    elif output is None:
        for image in selection.images:
            typer.echo(f"{image.path}")
    if selection.failed:
        raise typer.Exit(1)
