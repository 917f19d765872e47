"""`WriteContext`: the state of one writing of a data set, and what the writers of formats share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.arrays import FloatArray
from blemish.data.display_names import labels_with_display_names
from blemish.data.split_names import SPLITS
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.structures import Dataset, Sample, Task

MAX_NAMED_IMAGES = 5
FORBIDDEN_CHARACTERS = frozenset('<>:"/\\|?*')
# Windows takes these names for devices, with any extension; a data set written here is often read there.
WINDOWS_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{d}{n}" for d in ("COM", "LPT") for n in range(1, 10))}
)


def name_some(ids: Sequence[str]) -> str:
    """Return the first few of many ids, and the number of the others.

    Example:
        >>> name_some(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    more = len(ids) - MAX_NAMED_IMAGES
    return ", ".join(ids[:MAX_NAMED_IMAGES]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class ConversionLoss:
    """Something that a format cannot represent.

    Attributes:
        code: stable identifier of the kind of loss, such as "holes".
        what: one sentence, without the place.
        samples: ids of the images that it concerns; empty if it concerns the whole data set.
    """

    code: str
    what: str
    samples: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return what was lost, with the first few images that it concerns."""
        return f"{self.what}: {name_some(self.samples)}" if self.samples else self.what


@dataclass
class WriteContext:
    """The state of one writing of a data set.

    Attributes:
        link: whether to make hard links to the images instead of copies, if the disk allows it.
        suffixes: the right file extension of images that have a wrong one, by sample id.
        scores: if the objects or labels are predictions, (n,) float64 in [0, 1] by sample id, in their order.
        model: name of the model that predicted them, or "".
        lost: ids of images, by code and description of what they lost.
    """

    link: bool = False
    suffixes: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, FloatArray] = field(default_factory=dict)
    model: str = ""
    lost: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def lose(self, code: str, what: str, sample: Sample | None = None) -> None:
        """Record that the format cannot represent something.

        Args:
            code: stable identifier of the kind of loss, in kebab case, such as "holes".
            what: one sentence, without the place.
            sample: the image that it concerns; None for the whole data set.
        """
        samples = self.lost.setdefault((code, what), [])
        if sample is not None and (not samples or samples[-1] != sample.id):
            samples.append(sample.id)

    def put(self, sample: Sample, target: Path) -> None:
        """Copy or link a sample's image to `target`, unchanged; a missing image is recorded as lost."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if not sample.path.exists():  # a data set opened with missing="keep"
            self.lose("image-missing", "the image does not exist and was not copied", sample)
            return
        if self.link:
            try:
                os.link(sample.path, target)
            except OSError:
                shutil.copyfile(sample.path, target)
        else:
            shutil.copyfile(sample.path, target)


def require_task(dataset: Dataset, format: str, *tasks: Task) -> None:  # noqa: A002
    """Refuse a task that the format cannot represent.

    Args:
        dataset: the data set to write.
        format: name of the format.
        tasks: the tasks that it can represent.

    Raises:
        WrongTask: the task of `dataset` is not one of `tasks`.
    """
    if dataset.task not in tasks:
        supported = " or ".join(str(t) for t in tasks)
        raise WrongTask(
            f"expected a {supported} data set for the format {format}, got {dataset.task};"
            " choose another format or task",
            reason="format",
        )


def split_folders(dataset: Dataset) -> bool:
    """Return whether the data set has splits, all of them train, val or test.

    Raises:
        BadInput: some images have a split and others do not.
        UnknownName: a split has another name.
    """
    splits = {s.split for s in dataset.samples}
    if splits == {None}:
        return False
    if None in splits:
        without = next(s.id for s in dataset.samples if s.split is None)
        raise BadInput(
            f"{dataset.root}: {without} has no split and other images have one; run blemish data split first",
            reason="missing-split",
        )
    check_split_names(dataset)
    return True


def check_split_names(dataset: Dataset) -> None:
    """Refuse splits that no reader of a data set would recognize.

    Raises:
        UnknownName: a split is not train, val or test.
    """
    for name in {s.split for s in dataset.samples if s.split is not None}:
        if name not in SPLITS:
            raise UnknownName("split", name, SPLITS, where=str(dataset.root))


def file_names(dataset: Dataset, context: WriteContext) -> dict[str, str]:
    """Return a file name for each sample id, with a unique stem even if case does not count.

    Images keep their own names; if two have the same stem, the names of their folders are put before them.
    """
    own = {s.id: _with_suffix(s.path.name, context.suffixes.get(s.id)) for s in dataset.samples}
    names: dict[str, str] = {}
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
        names[sample.id] = unique
    return names


def _with_suffix(name: str, suffix: str | None) -> str:
    return name if suffix is None else PurePosixPath(name).stem + suffix


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.casefold()


def check_folder_name(name: str) -> None:
    """Refuse a label that cannot be the name of a folder on every operating system.

    Raises:
        BadInput: the label contains a slash, ends in a dot, is a device of Windows, or the like.
    """
    if (
        name.partition(".")[0].rstrip().upper() in WINDOWS_DEVICES
        or FORBIDDEN_CHARACTERS & set(name)
        or name.strip(" .") != name
        or not name.isprintable()
    ):
        raise BadInput(
            f"the label {name!r} cannot be the name of a folder; rename it or choose another format",
            reason="folder-name",
        )


def lose_extras(dataset: Dataset, context: WriteContext, kept: Mapping[str, bool] | None = None) -> None:
    """Record what a format cannot represent: groups, columns, flags, polygons, areas, display names.

    Args:
        dataset: the data set to write.
        context: receives the losses.
        kept: the facts that the format can represent: group, columns, crowd, difficult, truncated, masks,
            areas, scores.
    """
    kept = kept or {}
    if context.scores and not kept.get("scores"):
        context.lose("scores", "the scores of predictions are not kept")
    for sample in dataset.samples:
        ground_truth = sample.ground_truth
        if ground_truth is None:
            context.lose(
                "image-without-label",
                "the image has no label, and counts as an image without objects",
                sample,
            )
            continue
        if sample.group is not None and not kept.get("group"):
            context.lose("group", "the group is not kept", sample)
        if sample.columns and not kept.get("columns"):
            for column in sample.columns:
                context.lose("column", f"the column {column!r} is not kept", sample)
        for flag in ("crowd", "difficult", "truncated"):
            if getattr(ground_truth, flag).any() and not kept.get(flag):
                context.lose("flag", f"which objects are {flag} is not kept", sample)
        if ground_truth.masks is not None and not kept.get("masks"):
            context.lose("masks", "polygons and masks are not kept, boxes are", sample)
    if not kept.get("areas") and any(
        s.ground_truth is not None and s.ground_truth.areas.size for s in dataset.samples
    ):
        context.lose("areas", "the stated areas are not kept; they are computed when needed")
    labels = dataset.labels
    if labels.display_names != labels_with_display_names(labels.names).display_names:
        context.lose("display-names", f"the display names {', '.join(labels.display_names)} are not kept")


def lose_order(dataset: Dataset, context: WriteContext, order: Callable[[str], Any] | None = None) -> None:
    """Record labels without images, and an order of labels that is not that of their names.

    Args:
        dataset: the data set to write.
        context: receives the losses.
        order: sort key of the names; default: alphabetical.
    """
    used = {n for s in dataset.samples if s.ground_truth is not None for n in s.ground_truth.label_names}
    for name in dataset.labels.names:
        if name not in used:
            context.lose("label-without-image", f"the label {name!r} is not kept, because it has no image")
    kept = [n for n in dataset.labels.names if n in used]
    if kept != sorted(kept, key=order):
        context.lose(
            "label-order", "the order of the labels is not kept; they are read in the order of their names"
        )
