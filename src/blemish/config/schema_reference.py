"""Every key of a recipe with its type, default, value and meaning, from the schema and its docstrings."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from blemish.config import detector_options, image_level_options
from blemish.config.recipe import Recipe, section_in
from blemish.structures import Task

REQUIRED = "required"
_OR_NULL = " or null"
_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any", type(None): "null"}
_ATTRIBUTE = re.compile(r"(\w+): (.*)")
# Option classes of the built-in architectures, and the architectures that take them.
_OPTIONS: tuple[tuple[type[BaseModel], str], ...] = (
    (image_level_options.ImageOptions, "Classification, multilabel and localization"),
    (detector_options.DetectorOptions, "Every detector"),
    (detector_options.SSDOptions, "SSD: ssd300-resnet50"),
    (detector_options.TorchvisionSSDOptions, "SSD of torchvision: ssd300-vgg16, ssdlite320-mobilenet-v3"),
    (detector_options.RCNNOptions, "Faster R-CNN and Mask R-CNN"),
    (detector_options.YOLOOptions, "YOLO"),
    (detector_options.RFDETROptions, "RF-DETR"),
    (detector_options.HybridOptions, "Hybrid"),
)
# A recipe sets these options as keys of `model` or `data`.
_KEYS_ELSEWHERE = ("input_size", "head", "resize", "resize_to", "white_level")


@dataclass(frozen=True)
class SchemaRow:
    """One key of a recipe.

    Attributes:
        key: dotted key, such as `training.epochs`; `[]` stands for an entry of a list.
        type: what the key takes, such as `integer >= 1`.
        default: JSON value of the default, or "required".
        value: JSON value in the described recipe; None also for keys of a section that is null.
        is_changed: whether the value differs from the default.
        meaning: what the key does.
    """

    key: str
    type: str
    default: Any
    value: Any
    is_changed: bool
    meaning: str


def describe_schema(recipe: Recipe | None = None) -> tuple[SchemaRow, ...]:
    """Return a row for every key of a recipe, in the order of the schema.

    Args:
        recipe: the recipe whose values are shown; None for the defaults.

    Example:
        >>> next(row for row in describe_schema() if row.key == "training.epochs").type
        'integer >= 1'
    """
    chosen = Recipe() if recipe is None else recipe
    return tuple(_rows(Recipe, "", chosen.model_dump(mode="json")))


def describe_options() -> tuple[tuple[str, tuple[SchemaRow, ...]], ...]:
    """Return, for each group of built-in architectures, its name and its own keys below `model.options`.

    The options of every detector are a group of their own; the groups after it contain what differs.
    """
    groups = []
    for kind, architectures in _OPTIONS:
        own = {name for name in kind.__annotations__ if name in kind.model_fields} - {*_KEYS_ELSEWHERE}
        rows = _rows(kind, "model.options.", kind().model_dump(mode="json"))
        groups.append((architectures, tuple(row for row in rows if row.key.split(".")[2] in own)))
    return tuple(groups)


def attribute_meanings(section: type[BaseModel]) -> dict[str, str]:
    """Return the meaning of every field, from the `Attributes:` of the class and of its base classes."""
    meanings: dict[str, str] = {}
    for kind in reversed(section.__mro__[: section.__mro__.index(BaseModel)]):
        text = inspect.cleandoc(kind.__dict__.get("__doc__") or "")
        _, found, attributes = text.partition("Attributes:\n")
        name = ""
        for line in attributes.splitlines() if found else ():
            if line and not line.startswith(" "):
                break  # the next section of the docstring
            match = _ATTRIBUTE.fullmatch(line.strip())
            if match and line.startswith("    ") and not line.startswith("     "):
                name = match[1]
                meanings[name] = match[2]
            elif name and line.strip():
                meanings[name] += f" {line.strip()}"
    return meanings


def _rows(section: type[BaseModel], prefix: str, values: Any) -> Iterator[SchemaRow]:
    """Yield the rows of one section and of the sections in it."""
    meanings = attribute_meanings(section)
    for name, field in section.model_fields.items():
        value = values.get(name) if isinstance(values, dict) else None
        inner = section_in(field.annotation)
        is_list = get_origin(field.annotation) in (tuple, list)
        key = prefix + name
        if inner is None or is_list or type(None) in get_args(field.annotation):
            default = _default(section, name)
            is_changed = isinstance(values, dict) and value != default
            yield SchemaRow(key, _type_name(field), default, value, is_changed, meanings.get(name, ""))
        if inner is not None:
            below = None if is_list else value
            yield from _rows(inner, f"{key}[]." if is_list else f"{key}.", below)


def _default(section: type[BaseModel], name: str) -> Any:
    """Return the default as JSON gives it."""
    field = section.model_fields[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return REQUIRED
    return section.model_construct(**{name: default}).model_dump(mode="json", warnings=False)[name]


def _type_name(field: FieldInfo) -> str:
    name = _name_of(field.annotation)
    return f"{name.removesuffix(_OR_NULL)}{_bounds(field.metadata)}{_OR_NULL if _OR_NULL in name else ''}"


def _name_of(annotation: Any) -> str:
    """Return what a type is called in the reference."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [m for field in inner[1:] for m in getattr(field, "metadata", ())]
        return _name_of(inner[0]) + _bounds(bounds)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_name_of(part) for part in inner))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin is dict:
        return f"mapping to {_name_of(inner[1])}"
    if origin in (tuple, list):
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"list of {_name_of(inner[0])}"
        return f"{len(inner)} x {_name_of(inner[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if annotation is Task:
        return " or ".join(f"`{task}`" for task in Task)
    return _NAMES.get(annotation, str(getattr(annotation, "__name__", annotation)).lower())


def _bounds(metadata: list[Any]) -> str:
    """Return the range of a number: ` >= 1`, ` in [0, 1)`, or nothing."""
    low, low_open = _bound(metadata, "ge", "gt")
    high, high_open = _bound(metadata, "le", "lt")
    if low is not None and high is not None:
        return f" in {'(' if low_open else '['}{low:g}, {high:g}{')' if high_open else ']'}"
    if low is not None:
        return f" {'>' if low_open else '>='} {low:g}"
    return "" if high is None else f" {'<' if high_open else '<='} {high:g}"


def _bound(metadata: list[Any], closed: str, opened: str) -> tuple[float | None, bool]:
    for constraint in metadata:
        for name in (closed, opened):
            value = getattr(constraint, name, None)
            if value is not None:
                return float(value), name == opened
    return None, False
