"""The base class of every recipe section, and the number types that its fields share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
UNUSED = "unused_key"  # the type of a validation error about a key that the chosen method ignores


class Config(BaseModel):
    """One section of a recipe: immutable, and an unknown key is an error."""

    alternatives: ClassVar[tuple[str, ...]] = ()  # keys of which at most one is set
    # Keys that are dropped if one of the others, whose values they describe, is set over them.
    dependent: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_bool_as_number(cls, value: Any, info: Any) -> Any:
        """Refuse `batch_size: true`, which Python would read as 1."""
        if _contains(value, bool) and _is_numeric(cls.model_fields[info.field_name].annotation):
            raise ValueError("expected a number, not true or false")
        return value


def refuse_unused(section: Config, name: str, users: Mapping[str, Sequence[str]]) -> None:
    """Refuse a key that is set and has no effect with the chosen method.

    Args:
        section: the section that contains the keys.
        name: the method that was chosen in it.
        users: for each key, the methods that read it.

    Raises:
        PydanticCustomError: a key differs from its default and `name` does not read it.
    """
    for key, names in users.items():
        if name not in names and getattr(section, key) != type(section).model_fields[key].default:
            raise PydanticCustomError(
                UNUSED,
                "{name} does not use {key}, which is a key of {names}. Remove it",
                {"name": name, "key": key, "names": ", ".join(names)},
            )


def _contains(value: Any, kind: type) -> bool:
    """Return whether a value, or anything nested in a list or mapping, is an instance of `kind`."""
    if isinstance(value, Mapping):
        return any(_contains(inner, kind) for inner in value.values())
    if isinstance(value, list | tuple):
        return any(_contains(inner, kind) for inner in value)
    return isinstance(value, kind)


def _is_numeric(annotation: Any) -> bool:
    """Return whether a field takes numbers and nothing that `true` or `false` could be."""
    types = set(_nested_types(annotation))
    return bool(types & {int, float}) and not types & {bool, Any}


def _nested_types(annotation: Any) -> list[Any]:
    return [annotation, *(inner for part in get_args(annotation) for inner in _nested_types(part))]
