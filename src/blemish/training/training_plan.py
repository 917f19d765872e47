"""What a training would do, without training: `blemish train --dry-run`. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blemish.config.recipe import Recipe
from blemish.errors import BadWeights
from blemish.training.data_setup import resolve, split_data
from blemish.training.monitored_metrics import watched_metrics
from blemish.training.recipe_checks import check_recipe
from blemish.training.step_count import count_batches, count_steps
from blemish.training.step_settings import describe_steps, scale_to_batch

FEW_IMAGES = 100  # training images up to which training names the preset `few-images`


@dataclass(frozen=True)
class TrainingPlan:
    """What a training would do.

    Attributes:
        recipe: the resolved recipe.
        labels: names in order.
        images: number of images by split.
        monitor: the metric that selects the best epoch.
        steps_per_epoch: optimizer steps; None if the batch size is `auto` or tiles are cut.
        steps: optimizer steps of all epochs, or None.
        notes: what the data set reports about itself.
        derived: one line with the settings that follow from the number of steps; "" if there are none.
    """

    recipe: Recipe
    labels: tuple[str, ...]
    images: Mapping[str, int]
    monitor: str
    steps_per_epoch: int | None
    steps: int | None
    notes: tuple[str, ...]
    derived: str = ""


def describe_preset(recipe: Recipe, images: int) -> str:
    """Return one line about the preset of a recipe: what it sets, how to change it, and one for few images.

    Args:
        recipe: with a preset.
        images: number of training images.
    """
    training, name = recipe.training, recipe.preset
    optimizer = training.optimizer
    stages = ", ".join(f"{stage} {rate:g}" for stage, rate in optimizer.lr_by_stage.items())
    rates = f"{optimizer.learning_rate:g}" + (f" ({stages})" if stages else "")
    text = (
        f"preset {name}: {optimizer.name} at {rates}, batches of {training.batch_size}, "
        f"up to {training.epochs} epochs. `blemish config show {name}` prints all keys; change one with "
        "--set KEY=VALUE, or take no preset with --set preset=none"
    )
    if name == "yolo" and images <= FEW_IMAGES and recipe.model.weights != "none":
        text += f". With {images} training images, also try --set preset=few-images and compare both"
    return text


def plan_training(recipe: Recipe) -> TrainingPlan:
    """Return what a training would do, after the checks that precede it; images are not opened.

    Args:
        recipe: of a new run.

    Raises:
        BadRecipe: a key, value or combination that is not possible.
        BadDataset: the data cannot be used.
        BadWeights: the weights file does not exist.
        UnknownName: no such architecture, loss, transform or callback.
        WrongTask: the architecture does not support the task of the data.
    """
    check_recipe(recipe)
    weights = recipe.model.weights
    if weights not in ("default", "none") and not Path(weights).expanduser().is_file():
        raise BadWeights(f"{weights}: there is no such file. Check model.weights", reason="missing-file")
    data = split_data(recipe)
    resolved = scale_to_batch(resolve(recipe, data))
    check_recipe(resolved)
    training = resolved.training
    steps, derived = None, ""
    if isinstance(training.batch_size, int) and resolved.data.tiles is None:
        batches = count_batches(len(data.train), training.batch_size, training.devices * training.nodes)
        steps = count_steps(batches, training.accumulate_grad_batches)
        derived = describe_steps(resolved, steps, recipe.training.optimizer.nominal_batch_size)
    return TrainingPlan(
        recipe=resolved,
        labels=data.dataset.labels.names,
        images=data.dataset.splits,
        monitor=watched_metrics(resolved, data.dataset.task)["training.monitor"],
        steps_per_epoch=steps,
        steps=None if steps is None else steps * training.epochs,
        notes=data.dataset.notes,
        derived=derived,
    )
