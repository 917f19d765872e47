"""`ArchitectureOptions`: the typed options of an architecture, checked without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from blemish.errors import BadRecipe


class ArchitectureOptions(BaseModel):
    """Base class of the options that one or more architectures take.

    A subclass declares one field for each option. The registry passes an instance to the builder, and a
    recipe that sets an option which is not a field is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, architecture: str, options: Mapping[str, Any]) -> Self:
        """Return the options, with types and ranges checked.

        Args:
            architecture: the registered name, for error messages.
            options: values by option name; every name is a field of this class.

        Raises:
            BadRecipe: a value has the wrong type or is out of range ("bad-recipe.invalid-option").
        """
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(x) for x in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            where = f"option {place}: " if place else ""  # a check of several options names them itself
            raise BadRecipe(f"{architecture}: {where}{reason}", reason="invalid-option") from None
