"""A folder for each label, with or without train, val and test above them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.image_index import ImageIndex, is_image_name, sample_id
from blemish.data.read_context import ReadContext
from blemish.data.split_names import SPLITS, split_named
from blemish.data.write_context import (
    WriteContext,
    check_folder_name,
    file_names,
    lose_extras,
    require_task,
    split_folders,
)
from blemish.errors import BadDataset
from blemish.structures import Dataset, GroundTruth, Sample, Task


@register("folders", rank=90, description="a folder for each label, with images in it")
class FoldersReader:
    """Images sorted into folders; the folder's name is the label."""

    def recognizes(self, path: Path) -> bool:
        """Whether two levels down, or three below split folders, there are images."""
        return path.is_dir() and any(
            is_image_name(f.name)
            for folder in _folders(path)
            for level in (folder, *_folders(folder))
            for f in level.iterdir()
        )

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """One sample for each image, in the order of split, label and name."""
        top, levels = _levels(path, context)
        names = sorted({label.name for folder in levels.values() for label in _folders(folder)})
        labels = labels_with_display_names(names)
        samples: list[Sample] = []
        counts = dict.fromkeys(names, 0)
        for split, folder in levels.items():
            stray = [f.name for f in sorted(folder.iterdir()) if f.is_file() and is_image_name(f.name)]
            if stray:
                context.problem(
                    "image-without-label",
                    f"{len(stray)} images lie beside the label folders, such as {stray[0]!r}",
                    path=folder,
                    remedy="move each into a label's folder",
                    severity=Severity.WARNING,
                    fix="leaves them out",
                )
                context.note(f"{len(stray)} images in {folder} lie in no label's folder and were left out")
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
            raise BadDataset(f"{path}: there are no images in its folders; put some in, one folder a label")
        for name, count in counts.items():
            if count == 0:
                context.problem(
                    "empty-label",
                    f"the label folder {name!r} holds no image",
                    path=top,
                    remedy="fill or remove it",
                    severity=Severity.WARNING,
                )
                context.note(f"the label folder {name!r} holds no image")
        return Dataset(
            task=Task.CLASSIFICATION,
            labels=labels,
            samples=tuple(samples),
            root=top,
            format="folders",
        )

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """A folder for each label, below one for each split where the set has splits."""
        require_task(dataset, "folders", Task.CLASSIFICATION)
        splits = split_folders(dataset)
        names = file_names(dataset, context)
        lose_extras(dataset, context)
        if list(dataset.labels.names) != sorted(dataset.labels.names):
            context.lose("the order of the labels is not kept; they are read in the order of their names")
        if len({n.casefold() for n in dataset.labels}) < len(dataset.labels):
            context.lose("labels that differ in case only become one where case does not count")
        for name in dataset.labels:
            check_folder_name(name)
            for split in dataset.splits if splits else ("",):
                (root / split / name).mkdir(parents=True, exist_ok=True)
        for sample in dataset.samples:
            if sample.ground_truth is None:
                context.lose("the image has no label and is left out", sample)
                continue
            folder = root / (sample.split or "") / sample.ground_truth.label_names[0]
            context.put(sample, folder / names[sample.id])


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


def _levels(path: Path, context: ReadContext) -> tuple[Path, dict[str, Path]]:
    """The folder to name samples from, and the folder of label folders of each split ("" for no splits)."""
    below = _folders(path)
    if len(below) == 1 and split_named(below[0].name) is None:
        inside = below[0].iterdir()
        if not any(is_image_name(f.name) for f in inside if f.is_file()):  # an archive unpacked into a folder
            return _levels(below[0], context)
    splits = {folder: split_named(folder.name) for folder in below}
    named = [f for f, split in splits.items() if split and _folders(f)]
    if not named:
        return path, {"": path}
    others = [f.name for f in below if f not in named]
    if others:
        context.note(
            f"{path}: beside {', '.join(f.name for f in named)} the folder {others[0]!r} was left out"
        )
    levels: dict[str, Path] = {}
    for folder in named:
        split = splits[folder] or ""
        if split in levels:
            raise BadDataset(
                f"{path}: {levels[split].name} and {folder.name} both mean {split}; merge or rename one"
            )
        levels[split] = folder
    return path, {s: levels[s] for s in SPLITS if s in levels}
