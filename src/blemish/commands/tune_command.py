"""`blemish tune`: search for the recipe with the best validation metric."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.json_output import print_json

if TYPE_CHECKING:
    from blemish.config.recipe import Recipe
    from blemish.tuning.study import Objective, TuningResult


def tune(
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "-r",
            metavar="RECIPE",
            help="Recipe with a section tune: a YAML file, or a name from `blemish config list`.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="Folder of the study; one that exists is continued.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", "-d", metavar="PATH", help="Labeled images.", show_default="data.path of the recipe"
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of trainings.", show_default="tune.trials, or 20"),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Processes that train at the same time.")
    ] = 1,
    few: Annotated[
        bool,
        typer.Option(
            "--few",
            help="Train as `blemish train --few` does, without PyTorch. The search space may contain"
            " model.name, model.input_size, data.white_level and data.decode.",
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set any recipe key. Repeatable."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device of the network: auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Search for the recipe with the best metric on the validation images, and write it.

    The section tune of the recipe has the search space; the recipe's own values are the first trial. The
    study is a SQLite file in DIR: the same command continues it after an interruption, and further processes
    may join it. Trainings that are worse than the others at the same epoch are stopped. The test images
    choose nothing: measure the result with `blemish evaluate --split test`.

    Examples:
      blemish tune --recipe space.yaml --data photos/ --output studies/cars --trials 30

      blemish tune --recipe space.yaml --data photos/ --output studies/cars --few --workers 2
    """
    from blemish.config.recipe import read_recipe
    from blemish.training.recipe_checks import check_device_name
    from blemish.tuning.study import Study

    check_device_name(device)
    overrides = {"data.path": None if data is None else str(data), "tune.trials": trials}
    chosen = read_recipe(recipe, settings=settings or (), overrides=overrides)
    metric, direction, objective = _objective(chosen, few=few, device=device)
    study = Study(output, chosen, metric=metric, direction=direction, few=few)
    arguments = ["tune", "--recipe", recipe, "--output", str(output), "--device", device]
    arguments += ["--trials", str(chosen.tune.trials)]
    arguments += [] if data is None else ["--data", str(data)]
    arguments += ["--few"] * few + [part for setting in settings or () for part in ("--set", setting)]
    command = [sys.executable, "-m", "blemish", *arguments, "--json"]
    others = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - this program
        for _ in range(workers - 1)
    ]
    try:
        study.run(objective, lambda line: typer.echo(line, err=True))
        failed = [process for process in others if process.wait()]
    except BaseException:
        for process in others:
            process.terminate()
        raise
    if failed:
        typer.echo(f"blemish: warning: {len(failed)} of the other processes failed; see above", err=True)
    _print(study.finish(), as_json=as_json)


def _objective(recipe: Recipe, *, few: bool, device: str) -> tuple[str, str, Objective]:
    """Return metric, direction and objective of a recipe."""
    from blemish.errors import BadRecipe
    from blemish.training.monitored_metrics import monitor_direction
    from blemish.tuning.objectives import check_few_space, few_objective, metric_of, training_objective

    if recipe.data.path is None:
        raise BadRecipe("no data. Give --data PATH, or data.path in the recipe", reason="no-data")
    if few:
        from blemish.data import open_dataset
        from blemish.few_shot import require_packages
        from blemish.pretrained import PRETRAINED

        require_packages()
        check_few_space(recipe)
        dataset = open_dataset(
            recipe.data.path, format=recipe.data.format, images=recipe.data.images, task=recipe.task
        )
        if recipe.model.name not in PRETRAINED:
            raise BadRecipe(
                f"model.name: --few takes {', '.join(PRETRAINED)}, got {recipe.model.name!r}",
                reason="model-with-few",
            )
        metric = metric_of(recipe, dataset.task)
        return metric, monitor_direction(metric), few_objective(dataset, metric)
    from blemish.training.data_setup import split_data

    metric = metric_of(recipe, split_data(recipe).dataset.task)
    direction = monitor_direction(metric)
    return metric, direction, training_objective(metric, direction, device=device)


def _print(result: TuningResult, *, as_json: bool) -> None:
    from blemish.tuning.study import BEST_RECIPE

    if as_json:
        values: dict[str, Any] = {
            "study": result.folder.as_posix(),
            "recipe": (result.folder / BEST_RECIPE).as_posix(),
            "metric": result.metric,
            "value": result.value,
            "base_value": result.base_value,
            "params": dict(result.params),
            "trials": dict(result.trials),
            "importance": dict(result.importance),
        }
        print_json(values)
        return
    counts = ", ".join(f"{count} {state}" for state, count in result.trials.items())
    typer.echo(f"trials                 {counts}")
    if result.base_value is not None:
        typer.echo(f"val {result.metric:<18} {result.base_value:.4f} with the recipe's own values")
    typer.echo(f"val {result.metric:<18} {result.value:.4f} with the best")
    for key, value in result.params.items():
        share = f"   importance {result.importance[key]:.2f}" if key in result.importance else ""
        typer.echo(f"  {key}: {value}{share}")
    typer.echo(f"recipe                 {result.folder / BEST_RECIPE}")
