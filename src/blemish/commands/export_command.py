"""`blemish export`: write the model file of a run again, in another precision, with its own certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.json_output import print_json

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
        typer.Option(help="fp32, from the weights of a run, or fp16, from a run or an fp32 model file."),
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
            help="Labeled images on which the new file is compared with its source.",
            show_default="the run's validation images",
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="Maximum drop of the primary metric in fp16.")
    ] = 0.005,
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
    """
    from blemish.export.reexport import reexport
    from blemish.hub import is_address, local_file

    path = local_file(source, explanation=True)
    if is_address(source) and output is None:
        output = Path(f"{path.stem}-{precision}.onnx")
    source_file = path / "model.onnx" if path.is_dir() else path
    source_bytes = source_file.stat().st_size if source_file.is_file() else 0
    file = reexport(path, precision=precision, output=output, data=data, max_drop=max_drop, force=force)
    if as_json:
        certificate = file.contract.certificate
        assert certificate is not None  # noqa: S101  (every export writes one)
        print_json({"path": file.path.as_posix(), **certificate.model_dump(mode="json")})
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
    lines.append(
        f"decisions changed: {certificate.decisions_changed}; largest score difference: "
        f"{certificate.max_difference:.2g} ({certificate.backend}, {certificate.cpu_capability})"
    )
    if not certificate.passed:
        lines.append(f"NOT CERTIFIED: {'; '.join(certificate.reasons)}")
    return lines
