"""The image files below a folder, found by name, by path or by stem."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from blemish.imaging import IMAGE_SUFFIXES


def is_image_name(name: str) -> bool:
    """Whether a file name ends as images do and is not hidden."""
    return not name.startswith(".") and f".{name.rpartition('.')[2]}".casefold() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class ImageIndex:
    """The images below a folder, listed once, found by whatever path somebody wrote down.

    Attributes:
        root: the folder.
    """

    root: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every image by its path below the root with forward slashes, sorted."""
        return {name: self.root / name for name in sorted(_walk(self.root))}

    def path_texts(self) -> list[str]:
        """The paths of every image as text, which is what comparing many takes."""
        return [os.path.join(self.root, name) for name in _walk(self.root)]  # noqa: PTH118

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The file names alone."""
        return tuple({PurePosixPath(f).name for f in self.files})

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for path in self.files:
            out.setdefault(PurePosixPath(path).name, []).append(path)
        return out

    def by_name(self, written: str, near: str = "") -> Path | None:
        """The image that `written` means, or else the one of that file name, wherever it lies.

        Args:
            written: a path or name.
            near: a folder's name; of several of one name, the one below such a folder is taken.
        """
        found = self.find(written)
        if found is not None:
            return found
        names = self._by_name.get(written.strip().replace("\\", "/").rsplit("/", 1)[-1], [])
        if len(names) > 1:
            names = [n for n in names if near and near in n.split("/")]
        return self.files[names[0]] if len(names) == 1 else None

    @cached_property
    def _by_folded_stem(self) -> dict[str, list[str]]:
        out: dict[str, list[str]] = {}
        for name in self.files:
            out.setdefault(PurePosixPath(name).stem.casefold(), []).append(name)
        return out

    def find(self, written: str) -> Path | None:
        """The image that `written` means: as it stands, with Windows slashes, or by its last parts.

        Absolute paths of another machine are matched by the longest end that exists below the root.
        """
        posix = written.strip().replace("\\", "/")
        if not posix:
            return None
        plain = re.sub(r"^(\./)+", "", posix)
        if plain in self.files:
            return self.files[plain]
        parts = [p for p in plain.split("/") if p not in ("", ".")]
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            if end in self.files:
                return self.files[end]
        direct = Path(posix)
        # Only what is called an image: a table of somebody else's may name any file of this machine.
        return direct if direct.is_absolute() and is_image_name(direct.name) and direct.is_file() else None

    def by_stem(self, stem: str) -> Path | None:
        """The image of that stem, whatever its suffix; exact case first."""
        names = self._by_folded_stem.get(stem.casefold(), [])
        exact = [n for n in names if PurePosixPath(n).stem == stem]
        chosen = exact or names
        return self.files[chosen[0]] if chosen else None


def _walk(root: Path) -> list[str]:
    return [prefix + entry.name for prefix, entry in files_below(root) if is_image_name(entry.name)]


def files_below(root: Path, *, hidden: bool = False) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below a folder, after the folders between them; a link back to one above is not followed.

    Args:
        root: the folder; what cannot be listed is passed over.
        hidden: whether to take names that begin with a dot, and what macOS puts into archives.
    """
    stack: list[tuple[str, str, frozenset[tuple[int, int]]]] = [("", os.fspath(root), frozenset())]
    while stack:
        prefix, folder, above = stack.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 - asked for every folder
            entries = list(os.scandir(folder))
        except OSError:
            continue
        here = (status.st_dev, status.st_ino)
        if here in above and here[1]:  # some file systems of Windows number nothing
            continue
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")) and not hidden:
                continue
            if entry.is_dir():
                stack.append((f"{prefix}{entry.name}/", entry.path, above | {here}))
            else:
                yield prefix, entry


def sample_id(path: Path, root: Path) -> str:
    """An image's path below `root` with forward slashes, or its whole path where it lies elsewhere."""
    text, above = os.fspath(path), os.path.join(os.fspath(root), "")  # noqa: PTH118 - asked for every image
    if text.startswith(above):
        return text[len(above) :].replace(os.sep, "/")
    return path.as_posix()
