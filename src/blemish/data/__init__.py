"""Data sets: read, check, split, convert, merge and generate labeled images.

The names below are loaded on first use, so that importing this package is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blemish.data.load_dataset import as_task as as_task
    from blemish.data.load_dataset import open_dataset as open_dataset
    from blemish.data.split import split_dataset as split_dataset

_HOMES = {
    "open_dataset": "blemish.data.load_dataset",
    "as_task": "blemish.data.load_dataset",
    "split_dataset": "blemish.data.split",
}

__all__ = ["as_task", "open_dataset", "split_dataset"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
