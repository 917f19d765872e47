"""The formats of data sets: one file each, found by itself.

To add one, put a file in this folder with a class like this:

    @register("boards", rank=50, says="a folder with boards.txt")
    class Boards:
        def recognises(self, path: Path) -> bool: ...
        def read(self, path: Path, reading: Reading) -> Dataset: ...
        def write(self, dataset: Dataset, root: Path, writing: Writing) -> None: ...  # where it can be
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from blemish.errors import UnknownName

if TYPE_CHECKING:
    from blemish.data.read_context import ReadContext
    from blemish.structures import Dataset


class Reader(Protocol):
    """What every format can do."""

    def recognises(self, path: Path) -> bool:
        """Whether `path` looks like this format; cheap, and never raises."""

    def read(self, path: Path, reading: ReadContext) -> Dataset:
        """The data set at `path`; whatever is wrong is told to `reading`, which decides whether to go on."""


@dataclass(frozen=True)
class Format:
    """One format of the registry.

    Attributes:
        name: as `format=` and `--to` take it.
        rank: formats of lower rank are asked first whether they recognise a path.
        says: what it looks like, for the error of a path that no format recognises.
        reader: an instance of the registered class.
    """

    name: str
    rank: int
    says: str
    reader: Reader


_FORMATS: dict[str, Format] = {}
_Class = TypeVar("_Class", bound=type[Reader])


def register(name: str, *, rank: int, says: str) -> Callable[[_Class], _Class]:
    """A class decorator that puts a format into the registry."""

    def enter(cls: _Class) -> _Class:
        _FORMATS[name] = Format(name, rank, says, cls())
        return cls

    return enter


@cache
def formats() -> dict[str, Format]:
    """Every format by name, in the order in which they are asked."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return {f.name: f for f in sorted(_FORMATS.values(), key=lambda f: (f.rank, f.name))}


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UnknownName: there is none; the message offers the nearest.
    """
    try:
        return formats()[name]
    except KeyError:
        raise UnknownName("format", name, formats()) from None
