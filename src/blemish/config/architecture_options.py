"""`ArchitectureOptions`: the typed options of an architecture, checked without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from blemish.config.key_names import RENAMED_OPTIONS
from blemish.errors import BadRecipe, suggestion


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
            options: values by option name.

        Raises:
            BadRecipe: an option that does not exist ("bad-recipe.unknown-option") or was renamed
                ("bad-recipe.renamed-key"), or a value of the wrong type or out of range
                ("bad-recipe.invalid-option").
        """
        check_option_names(architecture, options, tuple(cls.model_fields))
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(x) for x in first["loc"])
            reason = first["msg"].removeprefix("Value error, ")
            where = f"option {place}: " if place else ""  # a check of several options names them itself
            raise BadRecipe(f"{architecture}: {where}{reason}", reason="invalid-option") from None


def check_option_names(
    architecture: str,
    options: Iterable[str],
    known: Sequence[str],
    keys: Mapping[str, str] | None = None,
) -> None:
    """Refuse options that an architecture does not take.

    Args:
        architecture: the registered name, for error messages.
        options: option names.
        known: the options that the architecture takes.
        keys: by option name, the recipe key that sets it, such as "data.white_level".

    Raises:
        BadRecipe: an option is not in `known` ("bad-recipe.unknown-option"; the message names the option, the
            architecture and the nearest option) or was renamed ("bad-recipe.renamed-key").
    """
    for option in options:
        if option in known:
            continue
        key = (keys or {}).get(option, option)
        source = "" if key == option else f" (set by {key})"
        if (new := RENAMED_OPTIONS.get(option)) in known:
            raise BadRecipe(
                f"architecture {architecture}: the option {option!r}{source} was renamed. Write {new}.",
                reason="renamed-key",
            )
        hint = suggestion(option, known) or "; it takes no options"
        raise BadRecipe(
            f"architecture {architecture} takes no option {option!r}{source}{hint}", reason="unknown-option"
        )
