"""`blemish import`: a model file of weights that were trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def import_model(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help=".safetensors, .pth or Ultralytics' .pt.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="The architecture.")],
    labels: Annotated[
        str,
        typer.Option(
            help="'coco', names with commas in the order of the outputs, or a file with one a line."
        ),
    ] = "coco",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to; NAME.onnx by default.", show_default=False
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Where the architecture answers several.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images, labelled or not, to prove on that file and network decide alike.",
            show_default=False,
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the architecture.", show_default=False),
    ] = None,
    allow_unused: Annotated[
        bool, typer.Option("--allow-unused", help="The file may hold tensors that the network lacks.")
    ] = False,
    weights_license: Annotated[
        str | None, typer.Option(help="Of the weights, as it shall stand in the file.", show_default=False)
    ] = None,
) -> None:
    """Make a model file of weights that were trained elsewhere; nothing in their file is ever run."""
    from blemish.export.import_weights import import_weights

    made = import_weights(
        weights,
        model,
        _labels(labels),
        output or Path(f"{model.replace('/', '-')}.onnx"),
        task=task,
        options=_options(options or []),
        samples=_samples(data),
        weights_license=weights_license,
        allow_unused=allow_unused,
    )
    contract = made.contract
    typer.echo(f"{made.path}: {contract.architecture}, {contract.task}, {len(contract.labels)} labels")
    if contract.licenses.weights:
        typer.echo(f"license of the weights: {contract.licenses.weights}")
    certificate = contract.certificate
    if certificate is None:
        typer.echo("not certified: give images with --data to prove that file and network decide alike")
    else:
        typer.echo(
            f"certified on {certificate.images} images: {certificate.decisions_changed} verdicts "
            f"changed, largest difference of a score {certificate.max_difference:.2g}"
        )


def _labels(text: str) -> Any:
    from blemish.errors import BadInput
    from blemish.structures import Labels

    if text == "coco":
        return text
    path = Path(text)
    if path.suffix and "," not in text:
        try:
            names = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path}: the labels cannot be read; write one name a line") from error
    else:
        names = text.split(",")
    return Labels(tuple(name.strip() for name in names if name.strip()))


def _options(settings: list[str]) -> dict[str, object]:
    import yaml

    from blemish.errors import BadRecipe

    found: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BadRecipe(f"--set {setting}: write it as key=value, such as input_size=640")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadRecipe(f"--set {setting}: this is no YAML; quote what is text") from error
    return found


def _samples(data: Path | None) -> Any:
    from blemish.errors import BadDataset
    from blemish.inference.sources import find_paths
    from blemish.structures import Sample

    if data is None:
        return ()
    from blemish.data import open_dataset

    try:
        return open_dataset(data).samples
    except BadDataset:
        return tuple(Sample(id=path.name, path=path) for path in find_paths([str(data)]))
