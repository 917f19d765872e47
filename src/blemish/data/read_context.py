"""What every reader of a format needs: options, a place for problems, and images found by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from blemish.data.findings import Finding, Severity
from blemish.data.image_headers import HeaderInfo
from blemish.errors import BadDataset, suggestion
from blemish.imaging import IMAGE_SUFFIXES
from blemish.structures import Task

SPLIT_NAMES = {
    "train": "train", "training": "train", "trn": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test", "tst": "test", "testset": "test",
}  # fmt: skip
SPLITS = ("train", "val", "test")


def split_named(name: str) -> str | None:
    """The split that a folder, file or cell of that name means, or None.

    Example:
        >>> split_named("Validation"), split_named("dent")
        ('val', None)
    """
    return SPLIT_NAMES.get(name.strip().casefold())


def is_image_name(name: str) -> bool:
    """Whether a file name ends as images do and is not hidden."""
    return not name.startswith(".") and f".{name.rpartition('.')[2]}".casefold() in IMAGE_SUFFIXES


@dataclass
class ReadContext:
    """One reading of a data set: what was asked, and what was found on the way.

    Attributes:
        images: where images lie, if not beside their labels.
        task: what the user wants the set to be, or None to go by what it holds.
        columns: for tables, which column (name, or position from 0) is the path, label, group, split, x, ...
        delimiter: for tables; recognised where None.
        box_order: for tables, the order of four columns given by position: xywh, xyhw or xyxy.
        missing: `error` for an image that is not there, `drop` to go on without it, or `keep`.
        minimum_labels: fewer distinct labels than this in a classification set are an error.
        lenient: collect problems instead of raising the first.
        looks: what a look at each image's header showed, by path, where somebody looked.
        notes: what was dropped or mended, for people.
        findings: problems collected.
    """

    images: Path | None = None
    task: Task | None = None
    columns: Mapping[str, str | int] = field(default_factory=dict)
    delimiter: str | None = None
    box_order: str | None = None
    missing: str = "error"
    minimum_labels: int = 2
    lenient: bool = False
    looks: dict[Path, HeaderInfo] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def problem(
        self,
        code: str,
        message: str,
        *,
        origin: str = "",
        path: Path | None = None,
        remedy: str = "",
        severity: Severity = Severity.ERROR,
        fix: str = "",
    ) -> None:
        """Something is wrong: raise it, or keep it and go on where the reading is lenient or it is no error.

        Raises:
            BadDataset: an error, and the reading is not lenient.
        """
        finding = Finding(code, severity, message, path, origin, remedy, fix)
        if severity is Severity.ERROR and not self.lenient:
            raise BadDataset(finding.sentence())
        self.findings.append(finding)

    def note(self, sentence: str) -> None:
        """Say something once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def in_two_splits(self, name: str, first: str, second: str, *, origin: str) -> str:
        """The one of two splits that an image listed in both counts for, the one to measure with."""
        lost, kept = sorted((first, second), key=SPLITS.index)
        self.note(f"images that stand in {lost} and in {kept} count for {kept} only")
        if self.lenient:
            self.problem(
                "split-leak",
                f"{name!r} stands in {lost} and in {kept}",
                origin=origin,
                remedy="list it in one split only: blemish data split",
                fix=f"drops it from {lost}",
            )
        return kept

    def missing_images(
        self, missing: list[tuple[str, str]], looked_in: Path, listed: ImageIndex | None = None
    ) -> None:
        """Report images that labels name and nobody finds.

        Args:
            missing: (name as written, origin) of each.
            looked_in: the folder they should lie in.
            listed: what lies there, for the nearest name.
        """
        if not missing:
            return
        remedy = "put them there, say where they are with images=, or drop their lines"
        if self.lenient:
            for name, origin in missing:
                near = (
                    "" if listed is None else suggestion(PurePosixPath(name).name, listed.names, max_names=0)
                )
                self.problem(
                    "missing-image",
                    f"there is no image {name!r} in {looked_in}{near if 'mean' in near else ''}",
                    origin=origin,
                    remedy="restore it or drop the line",
                    fix="drops the line",
                )
            return
        shown = ", ".join(repr(name) for name, _ in missing[:5]) + (", ..." if len(missing) > 5 else "")
        if self.missing == "drop":
            self.note(
                f"{len(missing)} images that labels name are not in {looked_in} and were dropped: {shown}"
            )
            return
        count = "an image is" if len(missing) == 1 else f"{len(missing)} images are"
        raise BadDataset(f"{missing[0][1]}: {count} not in {looked_in}: {shown}; {remedy}")


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

    def texts(self) -> list[str]:
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
