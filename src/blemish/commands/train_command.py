"""`blemish train`: from labelled images to a measured model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from blemish.training import Run

INTERRUPTED = 130


def train(
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", metavar="PATH", help="Labelled images.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="The architecture; see blemish models.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="RECIPE", help="A recipe in YAML.", show_default=False),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many.", show_default=False)] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="default|none|FILE", help="What the network starts from.", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any key of the recipe, with dots.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="RUN",
            help="The run's folder; runs/NAME where not given.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a run from its last complete epoch.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The folder that a table's paths are relative to.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
) -> None:
    """Train a model on labelled images, and write a model file that is proved to decide as it does.

    Later ones win: the recipe, the options, --set. A training that was stopped or killed goes on with
    --resume.
    """
    from blemish.config.recipe import read_recipe

    chosen: Any = None
    if resume is not None:
        given = {"--model": model, "--config": config, "--epochs": epochs, "--weights": weights,
                 "--set": settings, "--output": output, "--images": images}  # fmt: skip
        _check_alone(given)
    else:  # read before torch is loaded, so that a mistake is told at once
        chosen = read_recipe(
            config,
            settings=settings or (),
            overrides={
                "data.path": None if data is None else str(data),
                "data.images": None if images is None else str(images),
                "model.name": model,
                "model.weights": weights,
                "training.epochs": epochs,
            },
        )
        _check_data(chosen.data.path)
    from blemish.training import run

    try:
        made = run.train(
            chosen,
            output=output,
            device=device,
            resume=resume,
            data=data if resume else None,
            progress=not as_json,
        )
    except run.TrainingInterrupted as stopped:
        typer.echo(f"blemish: {stopped}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if made.rank == 0:
        _tell(made, as_json=as_json)


def _check_alone(given: dict[str, Any]) -> None:
    from blemish.errors import BadRecipe

    for name, value in given.items():
        if value is not None:
            raise BadRecipe(
                f"--resume goes on with the run's own recipe: leave {name} out, or begin a new run"
            )


def _check_data(path: str | None) -> None:
    from blemish.errors import BadDataset, BadRecipe

    if path is None:
        raise BadRecipe("no data: give --data PATH, or data.path in the recipe")
    if not Path(path).exists():
        raise BadDataset(f"{path}: no such file or folder; check the path")


def _tell(run: Run, *, as_json: bool) -> None:
    if as_json:
        import json

        result = {
            "run": run.path.as_posix(),
            "model": run.model_file.as_posix(),
            "best_epoch": run.best_epoch,
            "metrics": run.metrics,
        }
        typer.echo(json.dumps(result))
        return
    figures = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in run.metrics.items())
    typer.echo(f"best epoch {run.best_epoch}: {figures} (validation)")
    typer.echo(f"model file: {run.model_file}")
