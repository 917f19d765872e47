"""Find the folders, lists and label files of a YOLO data set, in any letter case and from any machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from blemish.data.split_names import split_named

DRIVE = re.compile(r"[A-Za-z]:")
LABELS_OF = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS"}
IMAGES_OF = {labels: images for images, labels in LABELS_OF.items()}


def any_case(root: Path, parts: list[str]) -> Path | None:
    """Return the file or folder at a path below `root` if its letter case, at most, is another one."""
    place = root
    for part in parts:
        exact = place / part
        if exact.exists():
            place = exact
            continue
        try:
            same = [p for p in place.iterdir() if p.name.casefold() == part.casefold()]
        except OSError:
            return None
        if len(same) != 1:
            return None
        place = same[0]
    return place


def path_parts(written: str) -> list[str]:
    r"""Return the parts of a path of any system, without a drive, `.` and `..`.

    Example:
        >>> path_parts(r"C:\data\train\images"), path_parts("../valid/images")
        (['data', 'train', 'images'], ['valid', 'images'])
    """
    parts = written.strip().replace("\\", "/").split("/")
    return [p for p in parts if p not in ("", ".", "..") and not DRIVE.fullmatch(p)]


def by_last_parts(written: str, roots: tuple[Path, ...]) -> Path | None:
    """Return the file or folder at the longest end of a path that exists below one of the folders.

    The last part alone counts only if no part before it is the name of a split: `images` is not
    `cars/train/images`.
    """
    parts = path_parts(written)
    for start in range(len(parts)):
        rest = parts[start:]
        if len(rest) == 1 and split_named(rest[0]) is None and any(map(split_named, parts[:start])):
            continue
        for root in roots:
            place = any_case(root, rest)
            if place is not None and place != root:
                return place
    return None


def label_file(image: Path) -> str:
    """Return the path of the label file of an image: in `labels` in place of `images`, or next to it.

    Args:
        image: the image.

    Returns:
        Text, because a Path takes longer to create than the file takes to read.

    Example:
        >>> label_file(Path("set/images/train/a.jpg")).replace(os.sep, "/")
        'set/labels/train/a.txt'
        >>> label_file(Path("set/Train/Images/a.jpg")).replace(os.sep, "/")
        'set/Train/Labels/a.txt'
    """
    text = swap_folder(os.fspath(image), LABELS_OF) or os.fspath(image)
    return text[: text.rindex(".")] + ".txt"


def swap_folder(text: str, names: dict[str, str]) -> str | None:
    """Return a path with the last folder that is a key of `names` replaced, or None if there is none."""
    parts = text.split(os.sep)  # noqa: PTH206 - see label_file
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] in names:
            parts[position] = names[parts[position]]
            return os.sep.join(parts)  # noqa: PTH118
    return None


MAX_KEPT_FILES = 20_000


class LabelFiles:
    """The label files of images; each folder is searched once, in any letter case."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}
        self._kept: dict[str, str | None] = {}

    def read(self, text: str, *, keep: bool = False) -> str | None:
        """Return the content of a label file, or None if it does not exist.

        Args:
            text: its path.
            keep: whether the next call with this path returns the content without opening the file again;
                that of the first 20,000 files is kept.
        """
        if text in self._kept:
            return self._kept.pop(text)
        try:
            with open(text, "rb") as file:  # noqa: PTH123 - a third of the time of Path.read_text
                content = file.read().decode("utf-8-sig", "replace")
        except (FileNotFoundError, IsADirectoryError):
            content = None
        if keep and len(self._kept) < MAX_KEPT_FILES:
            self._kept[text] = content
        return content

    def of(self, image: Path) -> str:
        """Return the path of the label file of an image, which may not exist."""
        text = label_file(image)
        folder, name = os.path.split(text)
        known = self._folders.get(folder)
        if known is None:
            known = self._folders[folder] = (
                _existing(folder) or _with_texts(os.path.split(image)[0]) or folder
            )
        return os.path.join(known, name)  # noqa: PTH118 - see label_file


def _with_texts(folder: str) -> str | None:
    """Return the folder if it contains text files: its path may contain `images` above the data set only."""
    try:
        return folder if any(name.endswith(".txt") for name in os.listdir(folder or ".")) else None  # noqa: PTH208
    except OSError:
        return None


def _existing(folder: str) -> str | None:
    if os.path.isdir(folder or "."):  # noqa: PTH112
        return folder
    parts = Path(folder).parts
    for start in range(len(parts) - 1, 0, -1):
        above = Path(*parts[:start])
        if above.is_dir():
            found = any_case(above, list(parts[start:]))
            return None if found is None else os.fspath(found)
    return None


def child_folder(folder: Path, name: str) -> Path | None:
    """Return a folder inside another by its name in any letter case, or None."""
    found = any_case(folder, [name])
    return found if found is not None and found.is_dir() else None


def trees(root: Path) -> Iterator[Path]:
    """Yield the folders that may contain `images` and `labels`: the root, and its split folders."""
    yield root
    yield from sorted(p for p in root.iterdir() if p.is_dir() and split_named(p.name))
