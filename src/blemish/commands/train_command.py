"""`blemish train`: train a model on labeled images and write its model file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.commands.json_output import print_json

if TYPE_CHECKING:
    from blemish.config.recipe import Recipe
    from blemish.training import Run, TrainingPlan

INTERRUPTED = 130


def train(
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", metavar="PATH", help="Labeled images: a folder, or a label file."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="Architecture; `blemish models` lists them.",
            show_default="the recipe's, or resnet18",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="RECIPE",
            help="Recipe: a YAML file, or a name from `blemish config list`.",
            show_default="the architecture's preset",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK", help="Task of the model, such as detection.", show_default="the task of the data"
        ),
    ] = None,
    data_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Format of the data, such as coco, voc or yolo.",
            show_default="detected",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder that image paths in the labels are relative to.",
            show_default="the folder of the labels",
        ),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="Side of the network's square input.", show_default="the architecture's"
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="default|none|FILE",
            help="Initial weights: default (pretrained), none (random), or a file.",
            show_default="the recipe's, or default",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Maximum number of epochs.", show_default="the recipe's, the preset's, or 30"
        ),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Images per training step; auto tries how many fit the memory.",
            show_default="the recipe's, the preset's, or 32",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--lr", metavar="LR", help="Learning rate.", show_default="the recipe's, the preset's, or 0.001"
        ),
    ] = None,
    min_precision: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Precision that the threshold of each label has to reach on validation images, such as 0.5; "
            "labels that cannot are marked for review.",
            show_default="the recipe's, or none",
        ),
    ] = None,
    loggers: Annotated[
        list[str] | None,
        typer.Option(
            "--logger",
            metavar="NAME",
            help="Experiment tracker that gets recipe and metrics: mlflow or wandb. Repeatable.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set any recipe key, such as training.batch_size=16. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="RUN",
            file_okay=False,
            help="Folder of the new run.",
            show_default="runs/ and a free name",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Folder of a run to continue after its last completed epoch."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device of the network: auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check recipe and data, print what would be trained, and exit.")
    ] = False,
    few: Annotated[
        bool,
        typer.Option(
            "--few",
            help="Fit a linear classifier on features of a pretrained network. Takes seconds, needs no "
            "PyTorch and works from 25 images per label. Needs the extras few and pretrained.",
        ),
    ] = False,
    false_alarms: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="With --task anomaly: the share of good images that may be decided anomalous.",
            show_default="0.05",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Random seed.", show_default="the recipe's, or 0")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    config: Annotated[str | None, typer.Option("--config", "-c", hidden=True)] = None,
) -> None:
    """Train a model on labeled images, and write a model file that is verified against the trained network.

    Options override the recipe, and --set overrides both. `blemish config show` explains every recipe key.
    Continue an interrupted run with --resume.

    Examples:
      blemish train --data photos/ --model resnet18 --output runs/cars

      blemish train --data photos/ --recipe damagelens-resnet18 --epochs 20 --batch-size 16

      blemish train --data coco/ --model ssd300-resnet50 --task detection --dry-run

      blemish train --data photos/ --few --output runs/cars

      blemish train --data good/ --task anomaly --output runs/panels

      blemish train --resume runs/cars
    """
    from blemish.errors import BadInput, BadRecipe
    from blemish.training.recipe_checks import check_device_name

    if config is not None:
        raise BadRecipe(f"--config {config}: write --recipe {config}", reason="renamed-option")
    check_device_name(device)
    task = task or _task_of_model(model)
    own_training = _training_of_task(task)
    if false_alarms is not None and own_training is None:
        raise BadInput(
            "--false-alarms belongs to tasks that learn from good images. Add --task anomaly, or remove it.",
            reason="option-with-task",
        )
    if few or own_training is not None:
        from blemish.commands.few_shot_command import train_few_command

        unused = {
            "--recipe": recipe,
            "--set": settings,
            "--epochs": epochs,
            "--batch-size": batch_size,
            "--lr": learning_rate,
            "--logger": loggers,
            "--min-precision": min_precision,
            "--resume": resume,
            "--dry-run": dry_run,
            "--device": None if device == "auto" else device,
        }
        extra: dict[str, Any] = {}
        if own_training is not None:
            unused["--few"] = few
            extra["false_alarms"] = false_alarms
        (own_training or train_few_command)(
            data=data,
            model=model,
            task=task,
            data_format=data_format,
            images=images,
            input_size=input_size,
            weights=weights,
            output=output,
            seed=seed,
            unused=unused,
            as_json=as_json,
            **extra,
        )
        return
    overrides = {
        "--images": ("data.images", None if images is None else str(images)),
        "--format": ("data.format", data_format),
        "--task": ("task", task),
        "--model": ("model.name", model),
        "--weights": ("model.weights", weights),
        "--input-size": ("model.input_size", input_size),
        "--epochs": ("training.epochs", epochs),
        "--batch-size": ("training.batch_size", _to_number(batch_size)),
        "--lr": ("training.optimizer.learning_rate", learning_rate),
        "--seed": ("training.seed", seed),
        "--logger": ("training.loggers", [{"name": name} for name in loggers] if loggers else None),
        "--min-precision": ("training.min_precision", min_precision),
    }
    chosen: Any = None
    if resume is not None:
        options = {name: value for name, (_, value) in overrides.items()}
        _refuse_with_resume({**options, "--recipe": recipe, "--set": settings, "--output": output})
        resumed = _check_run(resume)
        if dry_run:
            chosen = resumed
    else:
        from blemish.config.recipe import read_recipe

        keys = {"data.path": None if data is None else str(data), **dict(overrides.values())}
        chosen = read_recipe(recipe, settings=settings or (), overrides=keys)
        _check_before_torch(chosen)
    if dry_run:
        from blemish.training import plan_training

        plan = plan_training(chosen if data is None else chosen.changed({"data.path": str(data)}))
        _print_plan(plan, as_json=as_json)
        return
    from blemish.training import run

    try:
        result = run.train(
            chosen,
            output=output,
            device=device,
            resume=resume,
            data=data if resume else None,
            progress=not as_json,
        )
    except run.TrainingInterrupted as interruption:
        typer.echo(f"blemish: {interruption}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if result.rank == 0:
        _print_run(result, as_json=as_json)


def _training_of_task(task: str | None) -> Callable[..., None] | None:
    """Return the training of a task that needs no PyTorch and no recipe, or None."""
    from blemish.task import Task, tasks_by_name

    if task is None or task not in tasks_by_name() or "train_command" not in Task(task).fields.hooks:
        return None
    return Task(task).hook("train_command")


def _task_of_model(model: str | None) -> str | None:
    """Return the task whose own training knows the model, such as anomaly for `gaussian`, or None."""
    from blemish.task import Task

    name = (model or "").partition("@")[0]
    return next((str(task) for task in Task if name in task.fields.torch_free_architectures), None)


def _to_number(text: str | None) -> int | str | None:
    """Return an integer for digits; other text is left for the recipe to check."""
    return int(text) if text is not None and text.lstrip("-").isdecimal() else text


def _refuse_with_resume(options: dict[str, Any]) -> None:
    from blemish.errors import BadRecipe

    for name, value in options.items():
        if value is not None:
            raise BadRecipe(
                f"--resume uses the run's own recipe. Remove {name}, or start a new run",
                reason="option-with-resume",
            )


def _check_run(folder: Path) -> Recipe:
    """Check the recipe of a run to resume without importing torch, and return it."""
    from blemish.config.recipe import read_run_recipe
    from blemish.training.recipe_checks import check_recipe

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # training reads it again, and warns
        recipe = read_run_recipe(folder)
    check_recipe(recipe)
    return recipe


def _check_before_torch(recipe: Recipe) -> None:
    """Refuse a wrong name or a missing data set without importing torch."""
    from blemish.errors import BadDataset, BadRecipe
    from blemish.training.recipe_checks import check_recipe

    check_recipe(recipe)
    path = recipe.data.path
    if path is None:
        raise BadRecipe("no data. Give --data PATH, or data.path in the recipe", reason="no-data")
    if not Path(path).exists():
        raise BadDataset(f"{path}: there is no such file or folder. Check the path", reason="no-such-file")
    if Path(path).is_dir() and not any(Path(path).iterdir()):  # before pretrained weights are downloaded
        raise BadDataset(f"{path}: the folder is empty. Put images and labels in it", reason="empty-folder")


def _print_plan(plan: TrainingPlan, *, as_json: bool) -> None:
    recipe, training = plan.recipe, plan.recipe.training
    if as_json:
        print_json(
            {
                "dry_run": True,
                "task": str(recipe.task),
                "model": recipe.model.name,
                "labels": list(plan.labels),
                "images": dict(plan.images),
                "epochs": training.epochs,
                "batch_size": training.batch_size,
                "steps_per_epoch": plan.steps_per_epoch,
                "steps": plan.steps,
                "monitor": plan.monitor,
                "notes": list(plan.notes),
                "recipe": recipe.model_dump(mode="json"),
            }
        )
        return
    images = ", ".join(f"{count} {split}" for split, count in plan.images.items())
    steps = "known when training starts"
    if plan.steps_per_epoch is not None:
        steps = f"{plan.steps} ({plan.steps_per_epoch} per epoch)"
    for name, value in (
        ("model", f"{recipe.model.name}, weights {recipe.model.weights}"),
        ("task", recipe.task),
        ("labels", ", ".join(plan.labels) or "none"),
        ("images", images),
        ("epochs", f"{training.epochs}, batch size {training.batch_size}"),
        ("steps", steps),
        ("monitor", plan.monitor),
    ):
        typer.echo(f"{name:8} {value}")
    if recipe.preset != "none":
        from blemish.training.training_plan import describe_preset

        typer.echo(f"note: {describe_preset(recipe, plan.images['train'])}", err=True)
    for note in (*filter(None, (plan.derived,)), *plan.notes):
        typer.echo(f"note: {note}", err=True)


def _print_run(run: Run, *, as_json: bool) -> None:
    if as_json:
        # NaN is not JSON: an undefined metric is null.
        metrics = {name: value if value == value else None for name, value in run.metrics.items()}
        print_json(
            {
                "run": run.path.as_posix(),
                "model": run.model_file.as_posix(),
                "best_epoch": run.best_epoch,
                "metrics": metrics,
            }
        )
        return
    metrics_text = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in run.metrics.items())
    typer.echo(f"exported epoch {run.best_epoch}: {metrics_text} (validation)")
    typer.echo(f"model file: {run.model_file}")
