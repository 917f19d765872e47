"""`blemish drift`: compare a folder of images with the images of the training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from blemish.commands.json_output import print_json
from blemish.commands.shared_options import BackendOption, ThreadsOption


def drift(
    sources: Annotated[
        list[str], typer.Argument(metavar="DIR", help="Folders, images or patterns.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="FILE", help="Model file.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Write drift.json and drift.html to this folder.",
            show_default="no files",
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option(min=99, max=100_000, help="Random assignments of each test.")
    ] = 9999,
    seed: Annotated[int, typer.Option(help="Random seed of the assignments.")] = 0,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Compare images with those that a model was trained on: their features, and the scores of each label.

    A permutation test states whether there is a difference, an effect size how large it is. The images need
    no labels.

    Examples:
      blemish drift photos/november/ --model model.onnx --output drift/
    """
    from blemish.commands.evaluate_command import progress_bar
    from blemish.evaluation.drift_report import measure_drift, render_drift
    from blemish.inference import load
    from blemish.model_file import write_atomically

    predictor = load(model, backend=backend, threads=threads)
    with progress_bar("Predicting", visible=sys.stderr.isatty()) as progress:
        report = measure_drift(predictor, sources, permutations=permutations, seed=seed, progress=progress)
    if output is not None:
        import json

        output.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"schema_version": 1, **report.to_dict()}, indent=1)
        write_atomically(output / "drift.json", text.encode())
        write_atomically(output / "drift.html", render_drift(report).encode())
    if as_json:
        print_json(report.to_dict(), indent=1)
        return
    found = "the images differ from those of the training" if report.has_drift else "no difference found"
    typer.echo(f"{found}: {report.images} images, {report.unfamiliar} unfamiliar (rate {report.rate:.3f})")
    for test in report.tests:
        mark = "difference" if report.is_found(test) else "no difference"
        typer.echo(
            f"  {test.quantity}: {mark}, p {test.p_value:.4f}, effect {test.effect:.2f} ({test.test} "
            f"{test.statistic:.3f})"
        )
    for _, reason in report.unreadable[:10]:
        typer.echo(reason, err=True)
    if output is not None:
        typer.echo(f"report: {output / 'drift.html'}")
