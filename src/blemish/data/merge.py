"""Several data sets made one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from blemish.data.clean import select_objects
from blemish.data.display_names import labels_with_display_names
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.structures import Dataset, GroundTruth, Labels, Sample


def merge_datasets(datasets: Sequence[Dataset], mapping: Mapping[str, str | None] | None = None) -> Dataset:
    """All images of several sets of one task, their labels matched by name.

    Args:
        datasets: two or more.
        mapping: from a label's name to the name it shall have; None (or "") drops it.

    Raises:
        WrongTask: the sets are about different things.
        UnknownName: the mapping names a label that no set has.
        BadInput: fewer than two sets, or an image of a classification set would be without label.
    """
    if len(datasets) < 2:
        raise BadInput("merging takes two data sets or more; name another one")
    tasks = {d.task for d in datasets}
    if len(tasks) > 1:
        shown = ", ".join(f"{d.root} is a {d.task} set" for d in datasets)
        raise WrongTask(f"sets of different tasks cannot be merged ({shown}); open them with one --task")
    mapping = mapping or {}
    known = [n for d in datasets for n in d.labels.names]
    for name in mapping:
        if name not in known:
            raise UnknownName("label", name, dict.fromkeys(known), where="the map of labels")
    display_names: dict[str, str] = {}
    for dataset in datasets:
        for name, title in zip(dataset.labels.names, dataset.labels.display_names, strict=True):
            new = mapping.get(name, name)
            if new:
                display_names.setdefault(
                    new, title if new == name else labels_with_display_names([new]).display_names[0]
                )
    labels = Labels(tuple(display_names), tuple(display_names.values()))
    prefixes = _prefixes(datasets)
    samples: list[Sample] = []
    for dataset, prefix in zip(datasets, prefixes, strict=True):
        for sample in dataset.samples:
            ground_truth = None if sample.ground_truth is None else _renamed(sample, labels, mapping)
            group = None if sample.group is None else prefix + sample.group
            samples.append(replace(sample, id=prefix + sample.id, group=group, ground_truth=ground_truth))
    sources = ", ".join(f"{len(d)} of {d.root}" for d in datasets)
    notes = dict.fromkeys(n for d in datasets for n in d.notes)
    return Dataset(
        task=datasets[0].task,
        labels=labels,
        samples=tuple(samples),
        root=datasets[0].root,
        format=datasets[0].format,
        notes=(*notes, f"merged: {sources} images", *_groups_apart(datasets, prefixes)),
    )


def read_map(path: Path | str) -> dict[str, str | None]:
    """The map of labels in a YAML file: `old name: new name`, an empty new name drops the label.

    Raises:
        BadInput: no such file, or it is no such map.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError of dates such as 2020-13-45
        raise BadInput(f"{path}: no valid YAML; write lines such as 'scratches: scratch'") from error
    if not isinstance(content, dict) or not all(isinstance(v, str | int | None) for v in content.values()):
        raise BadInput(f"{path}: this is no map of labels; write lines such as 'scratches: scratch'")
    return {str(k): None if v is None else str(v) for k, v in content.items()}


def _prefixes(datasets: Sequence[Dataset]) -> list[str]:
    """What goes before the ids of each set, so that they stay unique; nothing where they are."""
    ids = [s.id for d in datasets for s in d.samples]
    if len(set(ids)) == len(ids):
        return [""] * len(datasets)
    names: list[str] = []
    for dataset in datasets:
        name, number = dataset.root.resolve().name, 1
        while f"{name}/" in names:
            number += 1
            name = f"{dataset.root.resolve().name}-{number}"
        names.append(f"{name}/")
    return names


def _groups_apart(datasets: Sequence[Dataset], prefixes: Sequence[str]) -> list[str]:
    """A note on groups of one name that a prefix makes two, which a split may then put on both sides."""
    if not any(prefixes):
        return []
    held = [{s.group for s in d.samples if s.group is not None} for d in datasets]
    shared = sorted({g for i, one in enumerate(held) for other in held[:i] for g in one & other})
    if not shared:
        return []
    sentence = (
        f"{len(shared)} groups of one name stand in several sets, such as {shared[0]!r}, and were kept apart,"
        " as their images have the same names; where they are one object, rename the images"
    )
    return [sentence]


def _renamed(sample: Sample, labels: Labels, mapping: Mapping[str, str | None]) -> GroundTruth:
    ground_truth = sample.ground_truth
    assert ground_truth is not None  # noqa: S101 - for the type checker
    new_names = [mapping.get(n, n) for n in ground_truth.label_names]
    keep = np.array([bool(n) for n in new_names], bool)
    if (ground_truth.task.has_one_label or ground_truth.task.has_one_box) and not keep.all():
        raise BadInput(
            f"{sample.origin or sample.id}: its only label is dropped by the map; keep it or drop the line"
        )
    kept = select_objects(ground_truth, keep)
    index = np.array([labels.index(n) for n in new_names if n], np.int64)
    if ground_truth.task.has_label_set:
        index = np.unique(index)
        return GroundTruth(
            task=ground_truth.task, labels=labels, label_index=index, size_hw=ground_truth.size_hw
        )
    return replace(kept, labels=labels, label_index=index)
