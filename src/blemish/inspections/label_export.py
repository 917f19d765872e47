"""Turn reviewed inspections into labeled images, in any format that Blemish writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import Mask
from blemish.data.write_dataset import WrittenDataset, check_output, get_writable_format, write_dataset
from blemish.errors import BadInput
from blemish.geometry import mask_from_array, mask_from_polygons, mask_to_array
from blemish.inspections.records import Finding, InspectionImage
from blemish.inspections.store import InspectionStore
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task


def export_labels(
    store: InspectionStore,
    inspection_ids: Sequence[str],
    output: Path,
    format: str,  # noqa: A002
    *,
    task: str | None = None,
) -> tuple[WrittenDataset, dict[str, int]]:
    """Write the images of inspections with their findings after the reviews as a data set.

    Accepted findings, as edited, and those that persons added become labels. Rejected ones do not. An image
    with an undecided finding is left out, as is one that nothing has inspected: its labels are not known.
    Images are named by their SHA-256; of an image in several inspections, the last labels are taken.

    Args:
        store: the store.
        inspection_ids: the inspections.
        output: new or empty folder.
        format: such as `coco`, `yolo` or `voc`.
        task: of the data set; see `reviewed_dataset`.

    Returns:
        What was written, and the numbers of images that were left out, by reason.

    Raises:
        UnknownName: no writable format has this name.
        BadInput: no reviewed image is left, or the folder is not empty.
    """
    get_writable_format(format)  # before the error about images without a decision
    check_output(output, (store.folder,))
    dataset, left_out = reviewed_dataset(store, inspection_ids, task=task)
    return write_dataset(dataset, output, format, suffixes=_suffixes(dataset, store)), left_out


def _suffixes(dataset: Dataset, store: InspectionStore) -> dict[str, str]:
    return {sample.id: Path(sample.id).suffix for sample in dataset}


def reviewed_dataset(
    store: InspectionStore, inspection_ids: Sequence[str], *, task: str | None = None
) -> tuple[Dataset, dict[str, int]]:
    """Return reviewed inspections as a data set, and the numbers of images left out, by reason.

    Args:
        store: the store.
        inspection_ids: the inspections.
        task: default: segmentation if every finding has an outline, detection if every finding has a box,
            else the task of the models' runs.

    Raises:
        BadInput: no image is left ("bad-input.nothing-reviewed"), or findings with and without boxes are
            mixed ("bad-input.mixed-findings").
    """
    left_out: Counter[str] = Counter()
    kept: list[tuple[InspectionImage, list[Finding], str]] = []
    run_tasks: set[str] = set()
    names: list[str] = []
    for inspection_id in inspection_ids:
        inspection = store.inspections.get(inspection_id)
        reference = store.assets.get(inspection.asset_id).reference
        runs = store.findings.runs(inspection_id)
        run_tasks |= {run.task for run in runs}
        names += [name for run in runs for name in run.labels]
        inspected = {entry["image_id"] for run in runs for entry in run.images if not entry.get("error")}
        by_image: dict[str, list[Finding]] = {}
        for finding in store.findings.of_inspection(inspection_id):
            by_image.setdefault(finding.image_id, []).append(finding)
        for image in store.images.of_inspection(inspection_id):
            findings = by_image.get(image.id, [])
            if any(finding.state in ("open", "contested") for finding in findings):
                left_out["undecided findings"] += 1
            elif image.id not in inspected and not findings:
                left_out["not inspected"] += 1
            else:
                kept.append((image, [f for f in findings if f.state == "accepted"], reference))
    newest = {image.sha256: image.id for image, _, _ in kept}
    if len(newest) < len(kept):
        left_out["also in a later inspection"] += len(kept) - len(newest)
        kept = [entry for entry in kept if newest[entry[0].sha256] == entry[0].id]
    accepted = [finding for _, findings, _ in kept for finding in findings]
    chosen = Task(task) if task else _task_of(accepted, run_tasks)
    if chosen.is_image_level and chosen.has_one_label:
        single = [entry for entry in kept if len({f.current_label for f in entry[1]}) == 1]
        if len(single) < len(kept):
            left_out["not exactly one label"] += len(kept) - len(single)
        kept = single
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "no images"
        raise BadInput(
            f"no reviewed image is left ({reasons}). Review the findings first.", reason="nothing-reviewed"
        )
    names += sorted({finding.current_label for finding in accepted})
    labels = Labels(tuple(dict.fromkeys(names)))
    samples = [
        Sample(
            id=f"{image.sha256}{_suffix(image)}",
            path=store.access.files.path(image.sha256),
            size_hw=(image.height, image.width),
            group=reference,
            ground_truth=_ground_truth(chosen, labels, image, findings),
        )
        for image, findings, reference in kept
    ]
    return Dataset(task=chosen, labels=labels, samples=tuple(samples), root=store.folder), dict(left_out)


def _suffix(image: InspectionImage) -> str:
    known = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp", "AVIF": ".avif"}
    return known.get(image.format, ".jpg")


def _task_of(accepted: Sequence[Finding], run_tasks: set[str]) -> Task:
    values = [finding.effective() for finding in accepted]
    with_box = [value for value in values if value["box_xyxy"] is not None]
    if values and len(with_box) == len(values):
        return Task("segmentation" if all(value["polygons"] for value in values) else "detection")
    if with_box:
        raise BadInput(
            "findings with boxes and findings of whole images are mixed. Export the inspections one by one.",
            reason="mixed-findings",
        )
    return Task(min(run_tasks) if run_tasks else "multilabel")


def _ground_truth(
    task: Task, labels: Labels, image: InspectionImage, findings: Sequence[Finding]
) -> GroundTruth:
    size = (image.height, image.width)
    if task.is_image_level:
        index = sorted({labels.index(finding.current_label) for finding in findings})
        return GroundTruth(task=task, labels=labels, size_hw=size, label_index=np.array(index, np.int64))
    values = [finding.effective() for finding in findings]
    masks = tuple(_mask(value, size) for value in values) if task.has_masks else None
    return GroundTruth(
        task=task,
        labels=labels,
        size_hw=size,
        label_index=np.array([labels.index(value["label"]) for value in values], np.int64),
        boxes_xyxy=np.array([value["box_xyxy"] for value in values], np.float64).reshape(-1, 4),
        masks=masks,
    )


def _mask(value: dict[str, Any], size_hw: tuple[int, int]) -> Mask:
    """Return the mask of an outline; rings inside of others are holes."""
    if not value["polygons"]:
        raise BadInput(
            "a finding has a box and no outline. Export with --task detection.", reason="no-outline"
        )
    region = np.zeros(size_hw, bool)
    for ring in value["polygons"]:
        region ^= mask_to_array(mask_from_polygons([ring], size_hw))
    return mask_from_array(region)
