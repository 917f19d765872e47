"""Data set formats: one module per format, and a registry that a third-party package can add to.

To add a format, register a class with three methods, `write` being optional:

    @register("boards", rank=50, description="a folder with boards.txt")
    class BoardsFormat:
        def recognizes(self, path: Path) -> bool: ...
        def read(self, path: Path, context: ReadContext) -> Dataset: ...
        def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None: ...

A built-in format is a module in this folder. A third-party package declares an entry point that names the
module with such a class:

    [project.entry-points."blemish.formats"]
    boards = "my_package.boards"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from blemish.registry import Registry

if TYPE_CHECKING:
    from blemish.data.read_context import ReadContext
    from blemish.data.write_context import WriteContext
    from blemish.structures import Dataset


class ReadableFormat(Protocol):
    """The methods of every format."""

    def recognizes(self, path: Path) -> bool:
        """Return whether `path` is a data set of this format.

        Blemish asks every format in order of rank and takes the first that returns True. The method must be
        cheap: it reads names and the first bytes of a few files, never all of them. It must not raise, except
        `OSError` for a file that cannot be read, and `BadDataset` for an ambiguous data set that is certainly
        of this format.

        Args:
            path: an existing file or folder.
        """

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Read the data set at `path`.

        The labels keep the order of the format. Boxes are x1 y1 x2 y2 in pixels of the upright image (after
        its EXIF orientation is applied); `RawAnnotations` and `place_all` convert boxes, polygons and masks
        that were drawn on the stored image or on a resized copy.

        Args:
            path: an existing file or folder; users may pass `format=` for a path that is not recognized.
            context: the user's options, such as the folder of images, and the collector of problems. Report
                every fault of the data to `context.problem` with its file and line: it raises, or returns if
                the caller collects problems (`blemish data check`), and the method then continues without the
                faulty part. Report what was left out or converted to `context.note`.

        Raises:
            BadDataset: the data set cannot be read; the message names the file and the line.
        """


class WritableFormat(ReadableFormat, Protocol):
    """The methods of a format that can also be written."""

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write images and labels below `root`.

        A data set that is written and read again must be equal, except for what was reported as lost.

        Args:
            dataset: the data set to write.
            root: an existing, empty folder.
            context: call `context.put` to copy or link an image, and `context.lose` for everything that this
                format cannot represent.

        Raises:
            WrongTask: the format has no place for the annotations of the data set's task.
            BadInput: a label or a split cannot be written in this format.
        """


@dataclass(frozen=True)
class Format:
    """One registered format.

    Attributes:
        name: the value of `format=`, `--format` and `--to`.
        rank: formats of lower rank are asked first whether they recognize a path; the built-in formats have
            10 to 90.
        description: the files of the format, for the error about a path that no format recognizes.
        implementation: an instance of the registered class.
    """

    name: str
    rank: int
    description: str
    implementation: ReadableFormat

    @property
    def is_writable(self) -> bool:
        """Whether data sets can be written in this format."""
        return hasattr(self.implementation, "write")

    @property
    def reports_unlabeled_images(self) -> bool:
        """Whether its reader itself reports the images without a label; `blemish data check` does otherwise.

        A class of a format states it with the attribute `reports_unlabeled_images = True`.
        """
        return bool(getattr(self.implementation, "reports_unlabeled_images", False))


FORMATS: Registry[Format] = Registry("formats", noun="format", builtin=__name__)
_Class = TypeVar("_Class", bound=type[ReadableFormat])


def register(name: str, *, rank: int, description: str) -> Callable[[_Class], _Class]:
    """Return a class decorator that registers a format.

    Args:
        name: the name that users write, such as "coco".
        rank: formats of lower rank are asked first whether they recognize a path. Give a format with an
            unmistakable file a low rank, and one that accepts nearly any folder a high one.
        description: the files of the format, such as "data.yaml, or labels/*.txt beside images/".

    Raises:
        DuplicateName: another module has registered `name`.

    Example:
        >>> @register("boards", rank=50, description="a folder with boards.txt")
        ... class BoardsFormat:
        ...     def recognizes(self, path):
        ...         return (path / "boards.txt").is_file()
        ...     def read(self, path, context): ...
        >>> get_format("boards").is_writable
        False
        >>> FORMATS.unregister("boards")
    """

    def decorate(cls: _Class) -> _Class:
        FORMATS.register(name, Format(name, rank, description, cls()), module=cls.__module__)
        return cls

    return decorate


def formats_by_rank() -> tuple[Format, ...]:
    """Return every format, in the order in which they are asked whether they recognize a path."""
    return tuple(sorted((entry for _, entry in FORMATS.items()), key=lambda f: (f.rank, f.name)))


def get_format(name: str) -> Format:
    """Return the format of this name.

    Raises:
        UnknownName: there is none; the message suggests the nearest name.
    """
    return FORMATS.get(name)
