"""The options that a recipe passes to its architecture, checked against the registry without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blemish.config.architectures import Architecture, describe
from blemish.config.image_level_options import IMAGENET_MEAN, IMAGENET_STD
from blemish.config.recipe import Recipe
from blemish.config.schema import DataConfig


@dataclass(frozen=True)
class RecipeOptions:
    """The options that a recipe sets for its architecture.

    Attributes:
        values: by option name, what the builder receives.
        keys: by option name, the recipe key that sets it, such as "data.white_level".
    """

    values: Mapping[str, Any]
    keys: Mapping[str, str]


def architecture_options(recipe: Recipe) -> RecipeOptions:
    """Return every option that a recipe sets for its architecture, wherever the recipe sets it.

    Example:
        >>> model = {"input_size": 64, "options": {"depth": 2}}
        >>> recipe = Recipe.of({"model": model, "data": {"white_level": 4095}})
        >>> dict(architecture_options(recipe).values)
        {'depth': 2, 'input_size': 64, 'white_level': 4095}
    """
    model, data = recipe.model, recipe.data
    values: dict[str, Any] = dict(model.options)
    keys = {name: f"model.options.{name}" for name in model.options}

    def put(name: str, value: Any, key: str) -> None:
        values[name], keys[name] = value, key

    for name in ("input_size", "head", "resize", "resize_to"):
        if (value := getattr(model, name)) is not None:
            put(name, value, f"model.{name}")
    if model.resize is None and model.resize_to is not None:
        put("resize", "shortest", "model.resize_to")
    if data.white_level != DataConfig.model_fields["white_level"].default:
        put("white_level", data.white_level, "data.white_level")
    if data.normalization in ("imagenet", "none"):
        imagenet = data.normalization == "imagenet"
        put("mean", IMAGENET_MEAN if imagenet else (0.0, 0.0, 0.0), "data.normalization")
        put("std", IMAGENET_STD if imagenet else (1.0, 1.0, 1.0), "data.normalization")
    return RecipeOptions(values, keys)


def check_architecture(recipe: Recipe) -> Architecture:
    """Check a recipe's architecture, its task and the names of its options, and return the architecture.

    Raises:
        UnknownName: no such architecture.
        WrongTask: the recipe names a task that the architecture does not support.
        BadRecipe: an option that it does not take ("bad-recipe.unknown-option").
    """
    architecture = describe(recipe.model.name)
    if recipe.task is not None:
        architecture.check_task(recipe.task)
    options = architecture_options(recipe)
    architecture.check_options(options.values, keys=options.keys)
    return architecture
