"""The state of one writing of a data set, and the checks and file names that writers of formats share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.data.display_names import labels_with_display_names
from blemish.data.split_names import SPLITS
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.structures import Dataset, Sample, Task

NAMED_IN_A_LOSS = 5
FORBIDDEN = frozenset('<>:"/\\|?*')
DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{d}{n}" for d in ("COM", "LPT") for n in range(1, 10))})


def some_of(ids: Sequence[str]) -> str:
    """The first few of many ids, and how many more there are.

    Example:
        >>> some_of(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    more = len(ids) - NAMED_IN_A_LOSS
    return ", ".join(ids[:NAMED_IN_A_LOSS]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class ConversionLoss:
    """Something that a format could not hold.

    Attributes:
        what: in one sentence, without where.
        samples: ids of the images concerned; empty where it concerns the whole set.
    """

    what: str
    samples: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What, and in which images."""
        return f"{self.what}: {some_of(self.samples)}" if self.samples else self.what


@dataclass
class WriteContext:
    """One writing of a data set.

    Attributes:
        link: make hard links to the images instead of copies, where the disk allows it.
        suffixes: the right file ending of images that have a wrong one, by sample id.
        lost: ids of images by what they lost.
    """

    link: bool = False
    suffixes: Mapping[str, str] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)

    def lose(self, what: str, sample: Sample | None = None) -> None:
        """Note that the format cannot hold something."""
        samples = self.lost.setdefault(what, [])
        if sample is not None and (not samples or samples[-1] != sample.id):
            samples.append(sample.id)

    def put(self, sample: Sample, target: Path) -> None:
        """Bring a sample's image to `target`, as it is."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not sample.path.exists():  # a set opened with missing="keep"
            self.lose("the image is not there and was not copied", sample)
            return
        if self.link:
            try:
                os.link(sample.path, target)
            except OSError:
                shutil.copyfile(sample.path, target)
        else:
            shutil.copyfile(sample.path, target)


def require_task(dataset: Dataset, format: str, *tasks: Task) -> None:  # noqa: A002
    """Refuse a task that the format cannot hold.

    Raises:
        WrongTask: it is none of `tasks`.
    """
    if dataset.task not in tasks:
        able = " or ".join(str(t) for t in tasks)
        raise WrongTask(
            f"{format} holds {able} sets, and this is a {dataset.task} set; choose another format or task"
        )


def split_folders(dataset: Dataset) -> bool:
    """Whether the set has splits, all of names that every format knows.

    Raises:
        BadInput: some images have a split and others none, or a split has another name.
    """
    splits = {s.split for s in dataset.samples}
    if splits == {None}:
        return False
    if None in splits:
        without = next(s.id for s in dataset.samples if s.split is None)
        raise BadInput(f"{dataset.root}: {without} has no split and others have one; divide the set first")
    check_split_names(dataset)
    return True


def check_split_names(dataset: Dataset) -> None:
    """Refuse splits that no reader of a data set would know again.

    Raises:
        UnknownName: a split is none of train, val and test.
    """
    for name in {s.split for s in dataset.samples if s.split is not None}:
        if name not in SPLITS:
            raise UnknownName("split", name, SPLITS, where=str(dataset.root))


def file_names(dataset: Dataset, writing: WriteContext) -> dict[str, str]:
    """A file name for each sample id, unique by stem also where case does not count.

    Images keep their own names; where two would meet, the folders they lay in go before the name.
    """
    own = {s.id: _with_suffix(s.path.name, writing.suffixes.get(s.id)) for s in dataset.samples}
    out: dict[str, str] = {}
    taken: set[str] = set()
    counts: dict[str, int] = {}
    for name in own.values():
        counts[_stem(name)] = counts.get(_stem(name), 0) + 1
    for sample in dataset.samples:
        name = own[sample.id]
        if counts[_stem(name)] > 1:
            folders = [p for p in PurePosixPath(sample.id).parts[:-1] if p not in ("/", "..")]
            name = "_".join([*folders, name])
        unique, number = name, 1
        while _stem(unique) in taken:
            number += 1
            unique = f"{PurePosixPath(name).stem}_{number}{PurePosixPath(name).suffix}"
        taken.add(_stem(unique))
        out[sample.id] = unique
    return out


def _with_suffix(name: str, suffix: str | None) -> str:
    return name if suffix is None else PurePosixPath(name).stem + suffix


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.casefold()


def check_folder_name(name: str) -> None:
    """Refuse a label that no folder can be named after.

    Raises:
        BadInput: it holds a slash, ends in a dot, is a device of Windows, or the like.
    """
    if (
        name.partition(".")[0].rstrip().upper() in DEVICES
        or FORBIDDEN & set(name)
        or name.strip(" .") != name
        or not name.isprintable()
    ):
        raise BadInput(
            f"the label {name!r} cannot be the name of a folder; rename it or choose another format"
        )


def lose_extras(dataset: Dataset, writing: WriteContext, held: Mapping[str, bool] | None = None) -> None:
    """Note what a format without room for them loses: groups, columns, flags, outlines, areas, titles.

    Args:
        dataset: what is written.
        writing: told about each.
        held: which of these the format holds all the same.
    """
    held = held or {}
    for sample in dataset.samples:
        ground_truth = sample.ground_truth
        if ground_truth is None:
            writing.lose("the image has no label, and counts as one with nothing in it", sample)
            continue
        if sample.group is not None and not held.get("group"):
            writing.lose("the group is not kept", sample)
        if sample.columns and not held.get("columns"):
            for column in sample.columns:
                writing.lose(f"the column {column!r} is not kept", sample)
        for flag in ("crowd", "difficult", "truncated"):
            if getattr(ground_truth, flag).any() and not held.get(flag):
                writing.lose(f"which objects are {flag} is not kept", sample)
        if ground_truth.masks is not None and not held.get("masks"):
            writing.lose("the outlines are not kept, boxes are", sample)
    if not held.get("areas") and any(
        s.ground_truth is not None and s.ground_truth.areas.size for s in dataset.samples
    ):
        writing.lose("the areas that the data state are not kept; they are counted when needed")
    labels = dataset.labels
    if labels.display_names != labels_with_display_names(labels.names).display_names:
        writing.lose(f"the titles {', '.join(labels.display_names)} are not kept")


def lose_order(dataset: Dataset, writing: WriteContext, order: Callable[[str], Any] | None = None) -> None:
    """Note labels that no image has, and an order of labels that is not that of their names."""
    used = {n for s in dataset.samples if s.ground_truth is not None for n in s.ground_truth.label_names}
    for name in dataset.labels.names:
        if name not in used:
            writing.lose(f"the label {name!r} is not kept, since no image has it")
    kept = [n for n in dataset.labels.names if n in used]
    if kept != sorted(kept, key=order):
        writing.lose("the order of the labels is not kept; they are read in the order of their names")
