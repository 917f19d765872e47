"""Write a data set in any format, and say exactly what the format could not hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from blemish.data.display_names import labels_with_display_names
from blemish.data.formats import formats, get_format
from blemish.data.image_headers import read_all_header_info
from blemish.data.read_context import SPLITS
from blemish.errors import BadInput, BlemishError, StorageFull, UnknownName, WrongTask
from blemish.structures import Dataset, Sample, Task

NAMED_IN_A_LOSS = 5
FORBIDDEN = frozenset('<>:"/\\|?*')
# Windows takes them for devices, with any ending; a set that is written here is often read there.
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


@dataclass(frozen=True)
class Written:
    """A data set that was written.

    Attributes:
        root: where.
        format: in which.
        images: how many.
        losses: what the format could not hold.
        damaged: ids of images whose files are broken, and were copied as they are.
    """

    root: Path
    format: str
    images: int
    losses: tuple[ConversionLoss, ...]
    damaged: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "root": self.root.as_posix(),
            "format": self.format,
            "images": self.images,
            "losses": [{"what": x.what, "samples": list(x.samples)} for x in self.losses],
            "damaged": list(self.damaged),
        }


@dataclass
class WriteContext:
    """One writing of a data set.

    Attributes:
        root: the folder to write into, empty.
        link: make hard links to the images instead of copies, where the disk allows it.
        suffixes: the right file ending of images that have a wrong one, by sample id.
        lost: ids of images by what they lost.
    """

    root: Path
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


class Writer(Protocol):
    """What a format that can be written does, beside reading."""

    def write(self, dataset: Dataset, writing: WriteContext) -> None:
        """Write images and labels below `writing.root`, and tell `writing` what is lost."""


def write_dataset(
    dataset: Dataset,
    root: Path | str,
    format: str,  # noqa: A002 - the word people type
    *,
    link: bool = False,
    suffixes: Mapping[str, str] | None = None,
) -> Written:
    """Write images and labels as a data set of `format`.

    Args:
        dataset: what to write.
        root: a folder that is not there yet, or empty.
        format: `folders`, `csv`, `coco`, `voc` or `yolo`.
        link: hard links to the images where possible; else copies.
        suffixes: the right file ending of images that have a wrong one, by sample id.

    Raises:
        UnknownName: no format of that name can be written.
        WrongTask: the format cannot hold what the set is about.
        BadInput: the folder is not empty or lies inside the set's own, or a name cannot be written.
        StorageFull: the disk is full or read-only.
    """
    root = Path(root)
    chosen = get_format(format)
    writer: Any = chosen.reader
    if not hasattr(writer, "write"):
        raise UnknownName(
            "format to write", format, [n for n, f in formats().items() if hasattr(f.reader, "write")]
        )
    check_output(root, (dataset.root,))
    damaged = _damaged(dataset)
    writing = WriteContext(root, link, suffixes or {})
    was_there = root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        writer.write(dataset, writing)
    except BlemishError:
        _take_back(root, was_there=was_there)
        raise
    except UnicodeEncodeError as error:
        _take_back(root, was_there=was_there)
        raise BadInput(
            f"{dataset.root}: the name {error.object!r} cannot be written as text; rename what it names"
        ) from error
    except OSError as error:
        if isinstance(error, StorageFull):
            raise
        where = error.filename2 or error.filename or root
        raise StorageFull(
            f"{where} could not be written ({error.strerror}); free some space or choose another folder"
        ) from error
    losses = tuple(ConversionLoss(what, tuple(ids)) for what, ids in writing.lost.items())
    return Written(root, chosen.name, len(dataset), losses, damaged)


def check_output(root: Path, sources: Iterable[Path | None]) -> None:
    """Refuse a folder to write to that holds something, or that would become part of what is read.

    Args:
        root: the folder.
        sources: what is read: folders, or files of labels, which stand for the folders they lie in.

    Raises:
        BadInput: it exists and is not empty, or lies inside a source.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BadInput(f"{root}: it exists and is not empty; choose another folder to write to")
    target = root.resolve()
    there = [p for p in (target, *target.parents) if p.exists()]
    for source in sources:
        folder = source.parent if source is not None and source.is_file() else source
        # Asked of the files themselves, since names may differ in case or lead through links.
        if folder is not None and folder.exists() and any(p.samefile(folder) for p in there):
            raise BadInput(
                f"{root}: it lies inside {folder}, whose images and labels are read, and the copy would"
                " count among them the next time; choose a folder outside to write to"
            )


def _damaged(dataset: Dataset) -> tuple[str, ...]:
    """The ids of images that are there and that a look at their files shows to be broken."""
    samples = [s for s in dataset.samples if s.path.exists()]
    looks = read_all_header_info([s.path for s in samples])
    return tuple(
        s.id for s, k in zip(samples, looks, strict=True) if k.error or k.fault in ("truncated", "checksum")
    )


def _take_back(root: Path, *, was_there: bool) -> None:
    """Empty a folder that was empty before, so that the next try is not refused for what this one left."""
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not was_there:
        root.rmdir()


def format_to_write(dataset: Dataset) -> str:
    """The set's own format where it can be written, else one that can hold its task."""
    if hasattr(get_format(dataset.format).reader, "write"):
        return dataset.format
    return "csv" if dataset.task.is_image_level else "coco"


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
