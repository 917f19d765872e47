"""The metrics that a training watches: which there are, and which direction is better; torch-free.

An epoch's row of history contains the validation metrics of the task, those of plug-ins, and losses. Every
metric is declared in `blemish.metrics.METRICS` with its direction; the losses are named by `loss_key`.
"""

from __future__ import annotations

import re

from blemish.config.recipe import Recipe
from blemish.errors import BadRecipe, suggestion
from blemish.metrics.metric_table import METRICS, Direction, custom_metrics, metric_direction
from blemish.structures import Task

TRAIN_LOSS, VAL_LOSS = "train_loss", "val_loss"
_LOSS_KEY = re.compile(r"(train|val)_(\w+_)?loss")


def loss_key(split: str, part: str = "") -> str:
    """Return the name of a loss, or of a part of it, in the history.

    Args:
        split: "train" or "val".
        part: name of the part, as `Network.loss` returns it; "" for the whole loss.

    Example:
        >>> loss_key("val"), loss_key("train", "box_loss"), loss_key("val", "iou")
        ('val_loss', 'train_box_loss', 'val_iou_loss')
    """
    name = part.removesuffix("_loss").removesuffix("loss")
    return f"{split}_{name}_loss" if name else f"{split}_loss"


def is_loss(name: str) -> bool:
    """Return whether a name is one that `loss_key` returns, and not that of a registered metric."""
    return name in (TRAIN_LOSS, VAL_LOSS) or (_LOSS_KEY.fullmatch(name) is not None and name not in METRICS)


def monitor_direction(name: str) -> Direction:
    """Return "min" for a loss, and the declared direction of any other metric.

    Raises:
        UnknownName: no metric has this name.

    Example:
        >>> monitor_direction("macro_f1"), monitor_direction("val_box_loss"), monitor_direction("error_x")
        ('max', 'min', 'min')
    """
    return "min" if is_loss(name) else metric_direction(name)


def watched_metrics(recipe: Recipe, task: Task) -> dict[str, str]:
    """Return, by recipe key, the metrics that select the best epoch or change the learning rate."""
    training = recipe.training
    watched = {"training.monitor": training.monitor or task.primary_metric}
    if training.schedule.name == "plateau" and training.schedule.metric:
        watched["training.schedule.metric"] = training.schedule.metric
    return watched


def known_metrics(task: Task) -> tuple[str, ...]:
    """Return the metrics of a validation epoch: those of the task, those of plug-ins, and both losses."""
    third_party = (spec.name for spec in custom_metrics(task))
    return (*task.fields.validation_metrics, *third_party, TRAIN_LOSS, VAL_LOSS)


def check_metrics(recipe: Recipe, task: Task | None) -> None:
    """Refuse a watched metric that no epoch of the task will have.

    Args:
        recipe: its keys `training.monitor` and `training.schedule.metric` are checked.
        task: None if it is not known yet: then every registered metric passes.

    Raises:
        BadRecipe: "bad-recipe.unknown-metric"; the message names the key and the nearest metric.
    """
    known = METRICS.names() if task is None else known_metrics(task)
    # The names of a detector's partial losses are known once it is trained.
    has_parts = task is None or task.has_objects
    training = recipe.training
    names = {"training.monitor": training.monitor, "training.schedule.metric": training.schedule.metric}
    for key, name in names.items():
        if name is not None and name not in known and not (has_parts and is_loss(name)):
            where = "" if task is None else f" for {task}"
            raise BadRecipe(
                f"{key}: there is no metric {name!r}{where}{suggestion(name, known)}", reason="unknown-metric"
            )
