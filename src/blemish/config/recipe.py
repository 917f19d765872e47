"""The recipe: everything a training depends on, typed, in one place; read without torch.

A recipe comes from a YAML file, from options on the command line and from `--set key=value`, later ones
winning; what stands nowhere is as its part says. The resolved recipe is written to the run.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from blemish.config.builtin import find_recipe
from blemish.config.schema import AugmentationConfig, Config, DataConfig, ModelConfig, TrainingConfig
from blemish.errors import BadRecipe, suggestion
from blemish.structures import Task

UNION_NAMES = ("function-", "constrained-", "literal", "int", "tuple", "dict")  # pydantic's


class Recipe(Config):
    """Everything a training depends on.

    Attributes:
        name: of the run.
        task: None to take the data's.
        model: which network.
        data: what is learned from.
        augmentation: what is changed at random.
        training: how it is learned.

    Example:
        >>> Recipe.of({"model": {"name": "resnet50"}, "training": {"epochs": 3}}).training.epochs
        3
    """

    name: str = ""
    task: Task | None = None
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "recipe") -> Self:
        """A recipe from nested mappings.

        Args:
            values: as YAML gives them.
            where: what an error calls them.

        Raises:
            BadRecipe: an unknown key, with the nearest one, or a value that cannot be.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise BadRecipe(_sentence(error, cls, where)) from None

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """This recipe with dotted keys set anew: `{"training.epochs": 3}`."""
        values = self.model_dump(mode="json", exclude_unset=True)  # what nobody said stays unsaid
        for key, value in settings.items():
            _put(values, key, value)
        return type(self).of(values)

    def to_yaml(self) -> str:
        """The resolved recipe as a file holds it."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        return text


def read_recipe(
    path: Path | str | None = None,
    *,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe of a file, of options and of settings, later ones winning.

    Args:
        path: a YAML file, or the name of a recipe that comes with Blemish; None for the defaults.
        settings: `key=value` each, dotted keys, values as YAML.
        overrides: values by dotted key; None values are passed over.

    Raises:
        BadRecipe: unreadable, unknown key, impossible value.

    Example:
        >>> read_recipe(settings=["training.epochs=3"]).training.epochs
        3
    """
    values: dict[str, Any] = {}
    where = "recipe" if path is None else str(path)
    if path is not None:
        values = _read_yaml(find_recipe(path))
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(values, key, value)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise BadRecipe(f"--set {setting}: write it as key=value, such as training.epochs=10")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise BadRecipe(f"--set {setting}: the value cannot be read as YAML") from None
        _put(values, key.strip(), value)
    return Recipe.of(values, where)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadRecipe(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecipe(f"{path}: cannot be read ({error})") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "broken"
        raise BadRecipe(f"{path}{line}: this is no YAML: {problem}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadRecipe(f"{path}: a recipe is a list of `key: value` lines, such as `name: my-run`")
    return values


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key in nested dictionaries; a key below a plain value replaces it."""
    *above, last = dotted.split(".")
    for name in above:
        inner = values.get(name)
        if not isinstance(inner, dict):
            inner = values[name] = {}
        values = inner
    values[last] = value


def _sentence(error: ValidationError, recipe: type[BaseModel], where: str) -> str:
    """What is wrong with the first key that is, and what to write instead."""
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    keys = [str(x) for x in first["loc"]]
    if first["type"] == "extra_forbidden":
        part = _part_at(recipe, keys[:-1])
        known = list(part.model_fields) if part else []
        return f"{where}: unknown key {'.'.join(keys)!r}{suggestion(keys[-1], known)}"
    place = ".".join(k for k in keys if not k.startswith(UNION_NAMES))
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    given = first.get("input")
    shown = "" if isinstance(given, dict) else f", not {given!r}"
    return f"{where}: {place or 'recipe'}: {reason}{shown}"


def _part_at(part: type[BaseModel], keys: Sequence[str]) -> type[BaseModel] | None:
    """The part of a recipe that stands below `keys`."""
    found: type[BaseModel] | None = part
    for key in keys:
        if found is None:
            return None
        if key not in found.model_fields:
            continue  # the number of an entry in a list, or pydantic's name for a union's member
        found = _model_in(found.model_fields[key].annotation)
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, tuple, list):
        return next((m for m in map(_model_in, get_args(annotation)) if m), None)
    return None
