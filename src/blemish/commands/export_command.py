"""`blemish export`: write the model file of a run again, in another precision, with its own certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.json_output import print_json
from blemish.commands.progress_line import TimedProgress

if TYPE_CHECKING:
    from blemish.model_file import ModelFile


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE",
            help="Folder of a run, or a model file, or hf://user/name.",
            show_default=False,
        ),
    ],
    precision: Annotated[
        str,
        typer.Option(help="fp32, from the weights of a run; fp16 or int8, from a run or an fp32 model file."),
    ] = "fp32",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Model file to write.",
            show_default="beside the source; for hf:// in this folder",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images, labeled or not, on which the new file is compared with its source.",
            show_default="the run's validation images",
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Maximum drop of the primary metric in fp16 and int8.")
    ] = 0.005,
    max_changed: Annotated[
        float,
        typer.Option(min=0, max=1, help="Maximum share of images on which int8 may change a decision."),
    ] = 0.0,
    backend: Annotated[
        str, typer.Option(help="Backend that an int8 file is made for and certified with first.")
    ] = "onnxruntime",
    force: Annotated[
        bool,
        typer.Option("--force", help="Write the file even if the comparison fails."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
) -> None:
    """Write a model file again and verify on images that it decides as its source does.

    Examples:
        blemish export runs/cars --precision fp16

        blemish export model.onnx --precision fp16 --data photos/ --output small.onnx

        blemish export runs/cars --precision int8

        blemish export runs/cars --precision int8 --backend openvino
    """
    from blemish.hub import is_address, local_file
    from blemish.model_file import read_model_file

    path = local_file(source, explanation=True)
    if is_address(source) and output is None:
        output = Path(f"{path.stem}-{precision}.onnx")
    source_file = path / "model.onnx" if path.is_dir() else path
    source_bytes = source_file.stat().st_size if source_file.is_file() else 0
    if not path.is_dir():
        read_model_file(path)  # a wrong file is refused before onnx is imported
    from blemish.export.reexport import reexport

    file = reexport(
        path,
        precision=precision,
        output=output,
        data=data,
        max_drop=max_drop,
        max_changed=max_changed,
        backend=backend,
        force=force,
        progress=TimedProgress(),
    )
    if as_json:
        certificate = file.contract.certificate
        assert certificate is not None  # noqa: S101  (every export writes one)
        others = [other.model_dump(mode="json") for other in file.contract.other_certificates]
        row = {"path": file.path.as_posix(), **certificate.model_dump(mode="json")}
        print_json({**row, "other_certificates": others})
        return
    for line in _summary_lines(file, source_bytes):
        typer.echo(line)


def _summary_lines(file: ModelFile, source_bytes: int) -> list[str]:
    certificate = file.contract.certificate
    assert certificate is not None  # noqa: S101  (every export writes one)
    size = file.path.stat().st_size
    share = f", {size / source_bytes:.1%} of the source" if source_bytes else ""
    lines = [f"{file.path}: {certificate.precision}, {size / 1e6:.1f} MB{share}"]
    if certificate.metric_before is not None and certificate.metric_after is not None:
        lines.append(
            f"{certificate.metric}: {certificate.metric_before:.4f} before, {certificate.metric_after:.4f} "
            f"after, on {certificate.images} images"
        )
    else:
        lines.append(f"images compared, without labels: {certificate.images}")
    lines.append(
        f"decisions changed: {certificate.decisions_changed}; largest score difference: "
        f"{certificate.max_difference:.2g} ({certificate.backend}, {certificate.cpu_capability})"
    )
    if facts := file.contract.training.get("quantization"):
        lines.append(f"{facts['float_layers']} of {facts['layers']} layers stay float32")
    for other in file.contract.other_certificates:
        state = "certified" if other.passed else f"not certified: {'; '.join(other.reasons)}"
        lines.append(f"{other.backend} in {other.precision}: {state}")
    if not certificate.passed:
        lines.append(f"NOT CERTIFIED: {'; '.join(certificate.reasons)}")
    return lines
