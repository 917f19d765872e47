"""Merge several data sets into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from blemish.data.clean import select_objects
from blemish.data.display_names import display_name_of
from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.structures import Dataset, GroundTruth, Labels, Sample

LABEL_MAP_EXAMPLE = "with lines such as 'scratches: scratch'"


def merge_datasets(datasets: Sequence[Dataset], mapping: Mapping[str, str | None] | None = None) -> Dataset:
    """Return all images of several data sets of one task, with labels matched by name.

    Args:
        datasets: two or more.
        mapping: old name of a label -> its new name; None or "" drops the label.

    Raises:
        WrongTask: the data sets have different tasks.
        UnknownName: the mapping names a label that no data set has.
        BadInput: fewer than two data sets, or an image would lose its only label.
    """
    if len(datasets) < 2:
        raise BadInput(
            f"expected at least two data sets to merge, got {len(datasets)}", reason="number-of-datasets"
        )
    tasks = {d.task for d in datasets}
    if len(tasks) > 1:
        shown = ", ".join(f"{d.root} has {d.task}" for d in datasets)
        raise WrongTask(f"expected data sets of one task, but {shown}; name one with --task", reason="merge")
    mapping = mapping or {}
    known = [n for d in datasets for n in d.labels.names]
    for name in mapping:
        if name not in known:
            raise UnknownName("label", name, dict.fromkeys(known), where="the label map")
    display_names: dict[str, str] = {}
    for dataset in datasets:
        for name, display_name in zip(dataset.labels.names, dataset.labels.display_names, strict=True):
            new_name = mapping.get(name, name)
            if new_name:
                display_names.setdefault(
                    new_name, display_name if new_name == name else display_name_of(new_name)
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


def read_label_map(path: Path | str) -> dict[str, str | None]:
    """Read a label map from a YAML file with lines `old name: new name`; an empty new name drops the label.

    Raises:
        BadInput: the file cannot be read, or is not a label map.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be read ({error.strerror}); check the path", reason="unreadable-file"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError of dates such as 2020-13-45
        raise BadInput(f"{path}: expected valid YAML, {LABEL_MAP_EXAMPLE}", reason="label-map") from error
    if not isinstance(content, dict) or not all(isinstance(v, str | int | None) for v in content.values()):
        raise BadInput(f"{path}: expected a mapping of labels, {LABEL_MAP_EXAMPLE}", reason="label-map")
    return {str(k): None if v is None else str(v) for k, v in content.items()}


def _prefixes(datasets: Sequence[Dataset]) -> list[str]:
    """The prefix of the ids of each data set that keeps them unique; empty if they are unique already."""
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
    """Return a note on groups of one name that a prefix makes two; a split may then separate them."""
    if not any(prefixes):
        return []
    groups = [{s.group for s in d.samples if s.group is not None} for d in datasets]
    shared = sorted({g for i, one in enumerate(groups) for other in groups[:i] for g in one & other})
    if not shared:
        return []
    sentence = (
        f"{len(shared)} groups have the same name in several data sets, such as {shared[0]!r}, and were"
        " kept apart,"
        " because their images have the same names; if a group shows one object, rename the images"
    )
    return [sentence]


def _renamed(sample: Sample, labels: Labels, mapping: Mapping[str, str | None]) -> GroundTruth:
    ground_truth = sample.ground_truth
    assert ground_truth is not None  # noqa: S101 - for the type checker
    new_names = [mapping.get(n, n) for n in ground_truth.label_names]
    keep = np.array([bool(n) for n in new_names], bool)
    if (ground_truth.task.has_one_label or ground_truth.task.has_one_box) and not keep.all():
        raise BadInput(
            f"{sample.origin or sample.id}: the label map drops its only label; keep the label or remove"
            " the image",
            reason="only-label",
        )
    kept = select_objects(ground_truth, keep)
    index = np.array([labels.index(n) for n in new_names if n], np.int64)
    if ground_truth.task.has_label_set:
        index = np.unique(index)
        return GroundTruth(
            task=ground_truth.task, labels=labels, label_index=index, size_hw=ground_truth.size_hw
        )
    return replace(kept, labels=labels, label_index=index)
