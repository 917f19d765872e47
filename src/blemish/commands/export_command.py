"""`blemish export`: a model file made again, in another precision, with a certificate of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from blemish.model_file import ModelFile


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE", help="A run's folder, or a model file, also hf://.", show_default=False
        ),
    ],
    precision: Annotated[str, typer.Option(help="fp32 (from a run's weights) or fp16.")] = "fp32",
    format_: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to; beside the source by default, of hf:// here.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Labelled images to compare on; the run's validation by default."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="How far the headline metric may fall in fp16.")
    ] = 0.005,
    force: Annotated[
        bool, typer.Option("--force", help="Write a file that did not pass, and let it say so.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The certificate as JSON.")] = False,
) -> None:
    """Make a model file again, and prove on images that it decides as before."""
    from blemish.export.reexport import reexport
    from blemish.hub import is_address, local_file

    place = local_file(source, explanation=True)
    if is_address(source) and output is None:
        output = Path(f"{place.stem}-{precision}.onnx")
    before = place / "model.onnx" if place.is_dir() else place
    size_before = before.stat().st_size if before.is_file() else 0
    made = reexport(
        place,
        precision=precision,
        format=format_,
        output=output,
        data=data,
        max_drop=max_drop,
        force=force,
    )
    certificate = made.contract.certificate
    assert certificate is not None  # noqa: S101  (every export writes one)
    if as_json:
        typer.echo(json.dumps({"path": made.path.as_posix(), **certificate.model_dump(mode="json")}))
        return
    for line in _lines(made, size_before):
        typer.echo(line)


def _lines(made: ModelFile, size_before: int) -> list[str]:
    certificate = made.contract.certificate
    assert certificate is not None  # noqa: S101
    size = made.path.stat().st_size
    share = f", {size / size_before:.1%} of the source" if size_before else ""
    lines = [f"{made.path}: {certificate.precision}, {size / 1e6:.1f} MB{share}"]
    if certificate.metric_before is not None and certificate.metric_after is not None:
        lines.append(
            f"{certificate.metric} {certificate.metric_before:.4f} before, {certificate.metric_after:.4f} "
            f"after, on {certificate.images} images"
        )
    lines.append(
        f"{certificate.decisions_changed} verdicts changed; largest difference of a score "
        f"{certificate.max_difference:.2g} ({certificate.backend}, {certificate.cpu_capability})"
    )
    if not certificate.passed:
        lines.append(f"NOT CERTIFIED: {'; '.join(certificate.reasons)}")
    return lines
