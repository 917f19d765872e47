"""Checks of a recipe and a device name before any work: names exist and fit the task; torch-free."""

from __future__ import annotations

from collections.abc import Callable

from blemish.config.recipe import Recipe
from blemish.config.recipe_options import check_architecture
from blemish.errors import BadRecipe, UnknownName
from blemish.structures import Task
from blemish.training.augmentation.transforms import build_transforms
from blemish.training.callback_registry import check_callbacks
from blemish.training.loss_registry import LOSSES, check_loss
from blemish.training.monitored_metrics import check_metrics

# The augmentation that not every task uses, and the property of the tasks that do.
_USERS: dict[str, Callable[[Task], bool]] = {
    **dict.fromkeys(("cutmix", "quarter_turn"), lambda task: task.is_image_level),
    **dict.fromkeys(
        ("scale_jitter", "translate", "iou_crop", "zoom_out", "window", "mosaic", "min_visibility"),
        lambda task: task.has_objects,
    ),
    "mixup": lambda task: task.is_image_level or task.has_objects,
    "copy_paste": lambda task: task.has_masks,
}


def check_device_name(device: str) -> None:
    """Refuse a text that is not the name of a device; whether this machine has the device is not checked.

    Raises:
        UnknownName: not `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
    """
    kind, _, number = device.partition(":")
    if device != "auto" and (kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal())):
        raise UnknownName("device", device, ("auto", "cpu", "cuda", "cuda:0", "mps"))


def check_recipe(recipe: Recipe) -> None:
    """Check what does not need the data: architecture, options, loss, metrics, transforms, callbacks.

    Args:
        recipe: if it names a task, its names must fit the task; else they must exist.

    Raises:
        BadRecipe: a name, key or combination that is not possible.
        UnknownName: no such architecture, loss, transform or callback.
        WrongTask: the architecture does not support the task.
    """
    check_architecture(recipe)
    build_transforms(recipe.augmentation.transforms)
    check_callbacks(recipe.training.callbacks)
    if recipe.task is not None:
        check_recipe_for_task(recipe, recipe.task)
        return
    check_metrics(recipe, None)
    if recipe.training.loss.name is not None:
        LOSSES.get(recipe.training.loss.name)


def check_recipe_for_task(recipe: Recipe, task: Task) -> None:
    """Check that metrics, loss, augmentation and tiles fit the task of the data.

    Raises:
        BadRecipe: the message names the key.
        UnknownName: no such loss.
    """
    check_metrics(recipe, task)
    check_loss(task, recipe.training.loss)
    check_augmentation(recipe, task)
    if recipe.training.min_precision is not None and not (task.has_label_set or task.has_objects):
        raise BadRecipe(
            f"training.min_precision: a model for {task} has no thresholds. Remove it",
            reason="key-of-another-task",
        )
    if recipe.data.tiles is not None and not task.has_objects:
        raise BadRecipe(
            f"data.tiles: only detection and segmentation use tiles, and the task is {task}. Remove it",
            reason="key-of-another-task",
        )


def check_augmentation(recipe: Recipe, task: Task) -> None:
    """Refuse augmentation that networks of the task are not trained with.

    Raises:
        BadRecipe: "bad-recipe.key-of-another-task"; the message names the key.
    """
    for name, uses in _USERS.items():
        if getattr(recipe.augmentation, name) and not uses(task):
            users = [str(t) for t in Task if uses(t)]
            raise BadRecipe(
                f"augmentation.{name}: it is for {' and '.join(users)}, and the task is {task}. Remove it",
                reason="key-of-another-task",
            )
