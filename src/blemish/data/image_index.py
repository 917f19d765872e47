"""`ImageIndex`: the image files below a folder, to be found by name, by path or by stem."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from blemish.data.folder_names import words_of
from blemish.data.split_names import split_named
from blemish.errors import nearest_name
from blemish.imaging import IMAGE_SUFFIXES

MAX_NAMES_COMPARED = 2000  # comparing a name with many thousands takes seconds


def is_image_name(name: str) -> bool:
    """Return whether a file name has the extension of an image and is not hidden."""
    return not name.startswith(".") and f".{name.rpartition('.')[2]}".casefold() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class ImageIndex:
    """The image files below a folder, listed once and found by the paths that labels state.

    Attributes:
        root: the folder.
    """

    root: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every image by its path below the root with forward slashes, sorted."""
        return {name: self.root / name for name in sorted(_walk(self.root))}

    def path_texts(self) -> list[str]:
        """Return the path of every image as text, which is faster to compare than `Path`."""
        return [os.path.join(self.root, name) for name in _walk(self.root)]  # noqa: PTH118

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The file names without folders."""
        return tuple({PurePosixPath(f).name for f in self.files})

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        paths: dict[str, list[str]] = {}
        for path in self.files:
            paths.setdefault(PurePosixPath(path).name, []).append(path)
        return paths

    def by_name(self, written: str, near: str = "", split: str | None = None) -> Path | None:
        """Return the image at a stated path, or else the only one with that file name.

        Args:
            written: the path or file name that a label states.
            near: name of a folder; of several images with the file name, the one below such a folder is
                taken.
            split: train, val or test; if there is none or several below such folders, the one below a folder
                of the split, such as `train2017`, is taken.
        """
        image = self.find(written)
        if image is not None:
            return image
        names = self._by_name.get(written.strip().replace("\\", "/").rsplit("/", 1)[-1], [])
        if len(names) > 1:
            inside = [n for n in names if near and near in n.split("/")[:-1]]
            if len(inside) != 1 and split is not None:
                inside = [n for n in inside or names if split_of_folders(n) == split]
            names = inside
        return self.files[names[0]] if len(names) == 1 else None

    def folders_with(self, written: str) -> list[Path]:
        """Return the folders that contain an image with the file name of a stated path."""
        name = written.strip().replace("\\", "/").rsplit("/", 1)[-1]
        return [self.files[found].parent for found in self._by_name.get(name, [])]

    def nearest(self, written: str) -> str | None:
        """Return the file name that is most similar to the one at the end of a path, or None.

        Of many files, only those with the same stem are considered.
        """
        name = PurePosixPath(written.replace("\\", "/")).name
        same_stem = self._by_folded_stem.get(PurePosixPath(name).stem.casefold(), [])
        if same_stem:
            return PurePosixPath(same_stem[0]).name
        return nearest_name(name, self.names) if len(self.names) <= MAX_NAMES_COMPARED else None

    @cached_property
    def _by_folded_stem(self) -> dict[str, list[str]]:
        paths: dict[str, list[str]] = {}
        for path in self.files:
            paths.setdefault(PurePosixPath(path).stem.casefold(), []).append(path)
        return paths

    def find(self, written: str) -> Path | None:
        """Return the image at a stated path, or None.

        Backslashes count as slashes. An absolute path of another machine is matched by the longest end that
        exists below the root.
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
        # Only files with the extension of an image: untrusted labels may name any file of this machine.
        return direct if direct.is_absolute() and is_image_name(direct.name) and direct.is_file() else None

    def by_unique_stem(self, stem: str) -> Path | None:
        """Return the only image with this stem, or None if there are none or several."""
        names = [n for n in self._by_folded_stem.get(stem.casefold(), []) if PurePosixPath(n).stem == stem]
        return self.files[names[0]] if len(names) == 1 else None

    def by_stem(self, stem: str) -> Path | None:
        """Return the image with this stem and any extension, preferably in the same case, or None."""
        names = self._by_folded_stem.get(stem.casefold(), [])
        exact = [n for n in names if PurePosixPath(n).stem == stem]
        chosen = exact or names
        return self.files[chosen[0]] if chosen else None


def split_of_folders(name: str) -> str | None:
    """Return the split that a folder of an image is named after, or None.

    Example:
        >>> split_of_folders("images/train2017/a.jpg"), split_of_folders("images/a.jpg")
        ('train', None)
    """
    words = (word for part in PurePosixPath(name).parts[:-1] for word in words_of(part))
    return next((split for word in words if (split := split_named(word))), None)


def _walk(root: Path) -> list[str]:
    return [prefix + entry.name for prefix, entry in files_below(root) if is_image_name(entry.name)]


def files_below(root: Path, *, hidden: bool = False) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield every file below a folder as (path of its folder below `root`, entry).

    A link to a parent folder is not followed.

    Args:
        root: the folder; folders that cannot be listed are skipped.
        hidden: whether to include names that begin with a dot, and the folders that macOS adds to archives.
    """
    stack: list[tuple[str, str, frozenset[tuple[int, int]]]] = [("", os.fspath(root), frozenset())]
    while stack:
        prefix, folder, parents = stack.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 - called for every folder
            entries = list(os.scandir(folder))
        except OSError:
            continue
        identity = (status.st_dev, status.st_ino)
        if identity in parents and identity[1]:  # some file systems of Windows have no inode numbers
            continue
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")) and not hidden:
                continue
            if entry.is_dir():
                stack.append((f"{prefix}{entry.name}/", entry.path, parents | {identity}))
            else:
                yield prefix, entry


def sample_id(path: Path, root: Path) -> str:
    """Return an image's path below `root` with forward slashes, or its whole path if it is elsewhere."""
    text, prefix = os.fspath(path), os.path.join(os.fspath(root), "")  # noqa: PTH118 - called for every image
    if text.startswith(prefix):
        return text[len(prefix) :].replace(os.sep, "/")
    return path.as_posix()
