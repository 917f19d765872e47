"""Compare what is read of a drawn tree with the ground truth it was drawn from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.data.trees.annotation_tree import Tree, TreeImage

from blemish.data import open_dataset
from blemish.data.audit import audit
from blemish.errors import BlemishError
from blemish.structures import Dataset, Sample


class WrongReading(AssertionError):
    """A tree was read as something else, or was refused although it is plain."""


def judge(tree: Tree, path: Path | None = None) -> str:
    """Return "read" or "refused".

    Raises:
        WrongReading: the reader gave something else than the ground truth, or refused a plain tree.
    """
    path = tree.root if path is None else path
    report = audit(path, duplicates=False)
    codes = sorted({f.code for f in report.findings})
    try:
        dataset = open_dataset(path)
    except BlemishError as error:
        if not report.findings.errors:
            raise WrongReading(f"data check has no error, reading has {error.code}: {error}") from error
        if not tree.may_refuse:
            raise WrongReading(f"refused: {error.code}: {error} {tree.oddities}") from error
        return "refused"
    fault = difference(dataset, tree)
    if fault:
        raise WrongReading(f"{fault}; {dataset.format}, {dataset.notes}, {codes}, {tree.oddities}")
    if report.dataset is None:
        raise WrongReading(f"read, but data check cannot read it: {codes} {tree.oddities}")
    fault = difference(report.dataset, tree)
    if fault and not report.findings.errors:
        raise WrongReading(f"data check: {fault}; {codes}, {tree.oddities}")
    if any(not image.annotated for image in tree.images) and not any(
        f.path is not None or "image" in f.message for f in report.findings
    ):
        raise WrongReading(f"images without annotation are not reported: {codes}, {tree.oddities}")
    if tree.losses and not (report.findings.errors or dataset.notes):
        raise WrongReading(f"{tree.losses} annotations were lost without a word: {codes}")
    return "read"


def difference(dataset: Dataset, tree: Tree) -> str:
    """Return the first difference between a data set and the ground truth of a tree, or ""."""
    if str(dataset.task) not in tree.tasks:
        return f"task {dataset.task}, expected {tree.tasks}"
    used = {label for i in tree.images for label in (*i.labels, *(o[0] for o in i.objects)) if i.annotated}
    names = set(dataset.labels.names)
    if not used <= names or not names <= set(tree.labels):
        return f"labels {sorted(names)}, expected {sorted(used)} of {sorted(tree.labels)}"
    expected = {os.path.normpath(tree.root / i.path): i for i in tree.images}
    seen = set()
    for sample in dataset.samples:
        place = os.path.normpath(sample.path)
        image = expected.get(place)
        if image is None:
            return f"the image {sample.path} is no part of the data set"
        if place in seen:
            return f"the image {image.path} is there twice"
        seen.add(place)
        fault = _image_difference(sample, image, tree)
        if fault:
            return f"{image.path}: {fault}"
    missing = [i.path for place, i in expected.items() if place not in seen and i.annotated]
    return f"images are missing: {missing[:3]}" if missing else ""


def _image_difference(sample: Sample, image: TreeImage, tree: Tree) -> str:
    ground_truth = sample.ground_truth
    if sample.split != image.split:
        return f"split {sample.split}, expected {image.split}"
    if ground_truth is None:
        return "" if not image.annotated else "no ground truth"
    if not ground_truth.task.has_boxes and not ground_truth.task.has_one_box:
        found = sorted(ground_truth.label_names)
        return "" if found == sorted(image.labels) else f"labels {found}, expected {sorted(image.labels)}"
    width, height = image.size_wh
    if sample.size_hw != (height, width):
        return f"size {sample.size_hw}, expected {(height, width)}"
    boxes = list(zip(ground_truth.label_names, ground_truth.boxes_xyxy.tolist(), strict=True))
    rest = list(image.objects)
    for label, box in boxes:
        match = next(
            (o for o in rest if o[0] == label and _is_near(box, o[1], image.size_wh, tree.tolerance)), None
        )
        if match is None:
            return f"object {label} {box}, expected {rest}"
        rest.remove(match)
    if ground_truth.masks is not None and len(ground_truth.masks) != len(boxes):
        return "an object has no mask"
    return f"objects are missing: {rest}" if rest else ""


def _is_near(box: Any, expected: Any, size_wh: tuple[int, int], tolerance: float) -> bool:
    """Whether two boxes are equal, or equal after clipping to the image."""
    width, height = size_wh
    clipped = [min(max(v, 0), side) for v, side in zip(expected, (width, height) * 2, strict=True)]
    return any(
        all(abs(a - b) <= tolerance for a, b in zip(box, other, strict=True)) for other in (expected, clipped)
    )
