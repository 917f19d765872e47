"""Build a network by its registered name, or for a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from blemish.config.architectures import describe
from blemish.config.recipe import Recipe
from blemish.config.recipe_options import architecture_options
from blemish.errors import BadRecipe, suggestion
from blemish.models._network import Network
from blemish.structures import Task


def create(name: str, *, task: Task | str, label_count: int, **options: Any) -> Network:
    """Return a network with random weights.

    Args:
        name: registered name, such as "resnet18" or "timm/convnext_tiny".
        task: the task to build it for.
        label_count: number of labels; 0 only for localization without labels.
        options: the architecture's own options, such as `input_size=128` or `head=HeadSpec(...)`.

    Raises:
        UnknownName: no such architecture.
        WrongTask: the architecture does not support the task.
        BadRecipe: an option that it does not take, or a value out of range.

    Example:
        >>> network = create("resnet18", task="classification", label_count=2, input_size=64)
        >>> network.inputs[0].size_hw
        (64, 64)
    """
    return _create(name, Task(task), label_count, options, {})


def build_network(
    recipe: Recipe, *, task: Task, label_count: int, seed: int = 0, largest_coordinate: float | None = None
) -> Network:
    """Return the network of a recipe with random weights.

    Every option that the recipe sets reaches the builder; see `architecture_options`.

    Args:
        recipe: its `model` and `data` sections are used.
        task: the task of the data.
        label_count: number of labels in the data.
        seed: of the random weights.
        largest_coordinate: in pixels, the largest box coordinate of the data; the option `coord_max` of a
            localization network whose `box_scale` is `coord_max`. Ignored if the recipe sets `coord_max`.

    Raises:
        UnknownName: no such architecture.
        WrongTask: the architecture does not support the task.
        BadRecipe: an option that it does not take, or a value out of range.
    """
    options = architecture_options(recipe)
    values, keys = dict(options.values), options.keys
    if values.get("box_scale") == "coord_max" and largest_coordinate is not None:
        values.setdefault("coord_max", largest_coordinate)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _create(recipe.model.name, task, label_count, values, keys)
    if isinstance(recipe.model.input_size, Mapping):
        known = [spec.name for spec in network.inputs]
        for name in recipe.model.input_size:
            if name not in known:
                raise BadRecipe(
                    f"model.input_size: {recipe.model.name} has no input {name!r}{suggestion(name, known)}",
                    reason="unknown-input",
                )
    return network


def _create(
    name: str, task: Task, label_count: int, options: Mapping[str, Any], keys: Mapping[str, str]
) -> Network:
    architecture = describe(name)
    architecture.check_task(task)
    architecture.check_options(options, keys=keys)
    build = architecture.load_builder()
    network: Network
    if architecture.options is not None:
        typed = architecture.options.of(name, options)
        network = build(name, task=task, label_count=label_count, options=typed)
    else:
        network = build(name, task=task, label_count=label_count, **options)
    network.architecture = name
    return network
