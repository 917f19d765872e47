"""`blemish import`: convert weights that were trained elsewhere to a model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from blemish.structures import Labels, Sample


def import_model(
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS",
            help="Weights file: .safetensors, .pth, or Ultralytics' .pt.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Architecture; see blemish models.", show_default=False
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(
            help="Names in the order of the outputs: separated by commas, or a file with one name per line; "
            "coco for COCO's 80 labels."
        ),
    ] = "coco",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Model file to write.", show_default="NAME.onnx"),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Task of the weights, if the architecture supports several.",
            show_default="the architecture's only task",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images, labeled or not, on which the model file is compared with the network.",
            show_default="none: the file is not certified",
        ),
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Option of the architecture, such as input_size=640. Repeatable.",
            show_default=False,
        ),
    ] = None,
    allow_unused: Annotated[
        bool,
        typer.Option("--allow-unused", help="Accept a file that contains tensors which the network lacks."),
    ] = False,
    weights_license: Annotated[
        str | None,
        typer.Option(
            help="License of the weights, stored in the model file.",
            show_default="that of the architecture's published weights",
        ),
    ] = None,
) -> None:
    """Convert weights that were trained elsewhere to a model file.

    Code in the weights file is never executed.

    Examples:
        blemish import yolo11n.pt --model yolo11n

        blemish import best.pth --model resnet50 --task classification --labels dent,scratch --data photos/
    """
    from blemish.config.architectures import describe

    describe(model)  # an unknown name is refused before torch is imported
    from blemish.export.import_weights import import_weights

    file = import_weights(
        weights,
        model,
        _parse_labels(labels),
        output or Path(f"{model.replace('/', '-')}.onnx"),
        task=task,
        options=_parse_options(options or []),
        samples=_open_samples(data),
        weights_license=weights_license,
        allow_unused=allow_unused,
    )
    contract = file.contract
    typer.echo(f"{file.path}: {contract.architecture}, {contract.task}, {len(contract.labels)} labels")
    if contract.licenses.weights:
        typer.echo(f"license of the weights: {contract.licenses.weights}")
    certificate = contract.certificate
    if certificate is None:
        typer.echo("not certified: give images with --data to compare the file with the network")
    else:
        typer.echo(
            f"certified on {certificate.images} images; decisions changed: {certificate.decisions_changed}; "
            f"largest score difference: {certificate.max_difference:.2g}"
        )


def _parse_labels(text: str) -> Labels | str:
    from blemish.errors import BadInput
    from blemish.structures import Labels

    if text == "coco":
        return text
    path = Path(text)
    if path.suffix and "," not in text:
        try:
            names = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"--labels {path}: cannot be read; expected a text file with one name per line",
                reason="label-names",
            ) from error
    else:
        names = text.split(",")
    return Labels(tuple(name.strip() for name in names if name.strip()))


def _parse_options(settings: Sequence[str]) -> dict[str, object]:
    import yaml

    from blemish.errors import BadRecipe

    options: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise BadRecipe(
                f"--set {setting}: expected key=value, such as input_size=640", reason="invalid-setting"
            )
        try:
            options[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise BadRecipe(
                f"--set {setting}: the value is not YAML. Quote text.", reason="invalid-setting"
            ) from error
    return options


def _open_samples(data: Path | None) -> tuple[Sample, ...]:
    from blemish.errors import BadDataset
    from blemish.inference.sources import find_paths
    from blemish.structures import Sample

    if data is None:
        return ()
    from blemish.data import open_dataset

    try:
        return open_dataset(data).samples
    except BadDataset:  # images without labels can be compared too
        return tuple(Sample(id=path.name, path=path) for path in find_paths([str(data)]))
