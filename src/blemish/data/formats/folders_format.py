"""The folders format: one folder per label, with or without train, val and test above them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.folder_names import is_tool_folder, layout_names
from blemish.data.folder_survey import survey
from blemish.data.formats import register
from blemish.data.image_index import ImageIndex, is_image_name, sample_id
from blemish.data.read_context import ReadContext
from blemish.data.split_names import SPLITS, split_named
from blemish.data.write_context import (
    WriteContext,
    check_folder_name,
    file_names,
    lose_extras,
    name_some,
    require_task,
    split_folders,
)
from blemish.errors import BadDataset
from blemish.structures import Dataset, GroundTruth, Sample, Task


@register("folders", rank=90, description="one folder per label, with images in it")
class FoldersFormat:
    """Images in one folder per label; the name of the folder is the label."""

    reports_unlabeled_images = True

    def recognizes(self, path: Path) -> bool:
        """Return whether there are images in folders or in their subfolders, perhaps below split folders."""
        return path.is_dir() and any(
            is_image_name(f.name)
            for folder in _folders(path)
            for level in _with_subfolders(folder, 2 if split_named(folder.name) else 1)
            for f in level.iterdir()
        )

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image, in the order of split, label and name.

        Folder names that describe a layout, such as images and masks, and folders with annotation files in no
        known format are refused, unless the user named this format.
        """
        top, levels = _levels(path, context)
        if context.format != "folders":
            _refuse_other_layouts(path, levels, context)
        names = sorted({label.name for folder in levels.values() for label in _folders(folder)})
        labels = labels_with_display_names(names)
        samples: list[Sample] = []
        counts = dict.fromkeys(names, 0)
        for split, folder in levels.items():
            stray = [f.name for f in sorted(folder.iterdir()) if f.is_file() and is_image_name(f.name)]
            if stray:
                context.problem(
                    "image-without-label",
                    f"{len(stray)} images are in no label folder, such as {stray[0]!r}",
                    path=folder,
                    remedy="move each into the folder of its label",
                    severity=Severity.WARNING,
                    fix="leaves them out",
                )
                context.note(f"{len(stray)} images in {folder} are in no label folder and were left out")
            for label in _folders(folder):
                ground_truth = GroundTruth(
                    task=Task.CLASSIFICATION, labels=labels, label_index=np.array([labels.index(label.name)])
                )
                for image in ImageIndex(label).files.values():
                    counts[label.name] += 1
                    samples.append(
                        Sample(
                            id=sample_id(image, top),
                            path=image,
                            split=split or None,
                            ground_truth=ground_truth,
                            origin=str(label),
                        )
                    )
        if not samples:
            raise BadDataset(
                "the folders contain no images",
                where=path,
                remedy="add images, one folder per label",
                reason="no-images",
            )
        for name, count in counts.items():
            if count == 0:
                context.problem(
                    "empty-label",
                    f"the label folder {name!r} contains no image",
                    path=top,
                    remedy="add images or remove it",
                    severity=Severity.WARNING,
                )
                context.note(f"the label folder {name!r} contains no image")
        return Dataset(
            task=Task.CLASSIFICATION,
            labels=labels,
            samples=tuple(samples),
            root=top,
            format="folders",
        )

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write one folder per label, in one folder per split if the data set has splits."""
        require_task(dataset, "folders", *(t for t in Task if t.has_one_label))
        splits = split_folders(dataset)
        names = file_names(dataset, context)
        lose_extras(dataset, context)
        if list(dataset.labels.names) != sorted(dataset.labels.names):
            context.lose(
                "label-order", "the order of the labels is not kept; they are read in alphabetical order"
            )
        if len({n.casefold() for n in dataset.labels}) < len(dataset.labels):
            context.lose(
                "label-case",
                "labels that differ only in case share a folder on file systems that ignore case",
            )
        for name in layout_names(list(dataset.labels.names)):
            context.lose(
                "label-layout-name",
                f"the label {name!r} has the name of a layout; read the copy with --format folders",
            )
        for name in dataset.labels:
            check_folder_name(name)
            for split in dataset.splits if splits else ("",):
                (root / split / name).mkdir(parents=True, exist_ok=True)
        for sample in dataset.samples:
            if sample.ground_truth is None:
                context.lose("image-without-label", "the image has no label and is left out", sample)
                continue
            folder = root / (sample.split or "") / sample.ground_truth.label_names[0]
            context.put(sample, folder / names[sample.id])


def _with_subfolders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield a folder and those below it, down to a depth."""
    yield folder
    for below in _folders(folder) if depth else ():
        yield from _with_subfolders(below, depth - 1)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not is_tool_folder(p.name))


def _refuse_other_layouts(path: Path, levels: dict[str, Path], context: ReadContext) -> None:
    """Raise if the folders are not those of labels; note the folders of programs, which are left out.

    Raises:
        BadDataset: a folder has the name of a layout, or a file names images and is in no known format.
    """
    label_folders = [label for folder in levels.values() for label in _folders(folder)]
    refused = layout_names(sorted({f.name for f in label_folders}))
    inside = {p.name for f in label_folders for p in _folders(f)}
    inside = {n for n in inside if split_named(n)} or set(layout_names(sorted(inside)))
    if not refused and (len(inside) > 1 or any(map(split_named, inside))):
        refused = sorted(inside)
    if not refused and any(_share_subfolders(_folders(folder)) for folder in levels.values()):
        refused = sorted({f.name for f in label_folders})
    remedy = "correct the layout, or read the names of the folders as labels with --format folders"
    if refused:
        raise BadDataset(
            f"expected folders named after labels or the annotations of a known format, got the folders"
            f" {name_some([repr(n) for n in refused])}: {survey(path).sentence()}",
            where=path,
            remedy=remedy,
            reason="folders-not-labels",
        )
    unread = survey(path).annotation_files
    if unread:
        raise BadDataset(
            "expected one folder per label and nothing else, got annotation files in no known format:"
            f" {name_some(unread)}",
            where=path,
            remedy=remedy,
            reason="unread-annotations",
        )
    for folder in levels.values():
        for tool in sorted(p for p in folder.iterdir() if p.is_dir() and is_tool_folder(p.name)):
            images = len(ImageIndex(tool).files)
            if images:
                context.note(f"{images} images in {tool.name}, a folder of a program, were left out")


def _share_subfolders(label_folders: list[Path]) -> bool:
    """Return whether the images are in subfolders of the same two or more names in every folder.

    The names of the subfolders may then be the labels, and the folders parts of the data set such as sites.
    """
    names = [frozenset(p.name for p in _folders(f)) for f in label_folders]
    if len(names) < 2 or len(names[0]) < 2 or len(set(names)) > 1:
        return False
    return not any(is_image_name(f.name) for folder in label_folders for f in folder.iterdir())


def _levels(path: Path, context: ReadContext) -> tuple[Path, dict[str, Path]]:
    """Return the folder that sample ids are relative to, and the folder of each split ("" without splits)."""
    children = _folders(path)
    if len(children) == 1 and split_named(children[0].name) is None:
        inside = children[0].iterdir()
        if not any(
            is_image_name(f.name) for f in inside if f.is_file()
        ):  # an archive that was extracted into its own folder
            return _levels(children[0], context)
    splits = {folder: split_named(folder.name) for folder in children}
    named = [f for f, split in splits.items() if split and _folders(f)]
    if not named:
        return path, {"": path}
    others = [f for f in children if f not in named]
    if others:
        context.note(
            f"{path}: the folder {others[0].name!r} next to {', '.join(f.name for f in named)} was left out"
        )
    for other in others:
        count = len(ImageIndex(other).files)
        if count:
            context.problem(
                "image-without-label",
                f"{count} images in the folder {other.name!r} next to those of splits are not read",
                path=other,
                remedy="move it, or correct the layout if they are images or masks of the data set",
                severity=Severity.WARNING,
                fix="leaves them out",
            )
    levels: dict[str, Path] = {}
    for folder in named:
        split = splits[folder] or ""
        if split in levels:
            raise BadDataset(
                f"both {levels[split].name} and {folder.name} are names of the split {split}",
                where=path,
                remedy="merge or rename one of them",
                reason="repeated-split",
            )
        levels[split] = folder
    return path, {s: levels[s] for s in SPLITS if s in levels}
