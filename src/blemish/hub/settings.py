"""Settings of a recipe by dotted key, as experiment trackers store them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each key of nested mappings; an empty mapping is a value.

    Example:
        >>> list(flatten({"training": {"epochs": 3, "loss": {}}}))
        [('training.epochs', 3), ('training.loss', {})]
    """
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
