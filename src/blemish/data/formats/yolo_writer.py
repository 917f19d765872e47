"""Write a data set in the yolo format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from blemish.arrays import FloatArray, Mask
from blemish.data.formats.yolo_paths import label_file
from blemish.data.polygon_masks import PolygonMask
from blemish.data.split_names import SPLITS
from blemish.data.write_context import WriteContext, file_names, lose_extras, require_task, split_folders
from blemish.errors import BadInput
from blemish.geometry import mask_to_polygons, mask_to_rings
from blemish.structures import Dataset, Sample, Task

BOX_TOLERANCE_PIXELS = 1.0  # many tools write the boxes of polygons in whole pixels
ROUNDING = 1e-6  # fractions may exceed [0, 1] by rounding


def write_yolo(dataset: Dataset, root: Path, context: WriteContext) -> None:
    """Write `images/` and `labels/`, and data.yaml if the data set has splits, classes.txt otherwise.

    Args:
        dataset: of a task with boxes; the size of every labeled image is known.
        root: an existing, empty folder.
        context: copies the images; receives what YOLO cannot represent.

    Raises:
        WrongTask: the task has no boxes.
        BadInput: the size of a labeled image is unknown.
    """
    require_task(dataset, "yolo", *(t for t in Task if t.has_boxes))
    splits = split_folders(dataset)
    names = file_names(dataset, context)
    lose_extras(dataset, context, {"masks": True})
    for sample in dataset.samples:
        image = root / "images" / (sample.split or "") / names[sample.id]
        context.put(sample, image)
        text = root / label_file(image.relative_to(root))
        text.parent.mkdir(parents=True, exist_ok=True)
        lines = object_lines(sample, context)
        text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    if splits:
        content: dict[str, object] = {"path": "."}
        content |= {s: f"images/{s}" for s in SPLITS if s in dataset.splits}
        content["names"] = dict(enumerate(dataset.labels.names))
        text_of = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (root / "data.yaml").write_text(text_of, "utf-8")
    else:
        context.lose(
            "splits-needed", "there is no data.yaml, which needs splits; split the data set to get one"
        )
        lines = [" ".join(name.splitlines()) for name in dataset.labels]
        if lines != list(dataset.labels.names):
            context.lose(
                "label-line-break",
                "classes.txt has one line per label, so line breaks in labels became spaces",
            )
        (root / "classes.txt").write_text("".join(f"{n}\n" for n in lines), "utf-8")


def object_lines(sample: Sample, context: WriteContext) -> list[str]:
    """Return the lines of the label file of a sample.

    Args:
        sample: its boxes are in pixels of the upright image.
        context: receives what YOLO cannot represent.

    Returns:
        One line per object: label index, then center x and y, width and height, or the points of a polygon,
        in fractions of image width and height in [0, 1].

    Raises:
        BadInput: the size of the image is unknown.
    """
    ground_truth = sample.ground_truth
    if ground_truth is None or ground_truth.boxes_xyxy is None or not len(ground_truth):
        return []
    if sample.size_hw is None:
        raise BadInput(
            f"{sample.path}: the size of the image is unknown. Restore the image or leave it out.",
            reason="unknown-size",
        )
    scale = np.array([sample.size_hw[1], sample.size_hw[0]], np.float64)
    lines = []
    box_only = [
        m is None or (isinstance(m, PolygonMask) and m.from_box)
        for m in ground_truth.masks or [None] * len(ground_truth)
    ]
    mixed = any(box_only) and not all(box_only)
    if mixed:
        context.lose(
            "box-as-polygon",
            "a label file contains boxes or polygons, so boxes were written as rectangles",
            sample,
        )
    for row, label in enumerate(ground_truth.label_index.tolist()):
        mask = None if ground_truth.masks is None else ground_truth.masks[row]
        if mask is None or (box_only[row] and not mixed):
            low, high = ground_truth.boxes_xyxy[row, :2] / scale, ground_truth.boxes_xyxy[row, 2:] / scale
            low, high = _clip_fractions(low, sample, context), _clip_fractions(high, sample, context)
            numbers = np.concatenate([(low + high) / 2, high - low])
        else:
            polygon = _single_polygon(mask, sample, context)
            if polygon is None:
                continue
            bounds = np.concatenate([polygon.min(0), polygon.max(0)])
            if np.abs(bounds - ground_truth.boxes_xyxy[row]).max() > BOX_TOLERANCE_PIXELS:
                context.lose(
                    "box-of-polygon",
                    "a box that is not the bounding box of its polygon becomes that box",
                    sample,
                )
            numbers = _clip_fractions(polygon / scale, sample, context).reshape(-1)
        lines.append(" ".join([str(label), *(f"{v:.12g}" for v in numbers)]))
    return lines


def _clip_fractions(fractions: FloatArray, sample: Sample, context: WriteContext) -> FloatArray:
    if fractions.min() < -ROUNDING or fractions.max() > 1 + ROUNDING:
        context.lose("clipped", "objects were clipped to the image", sample)
    return np.clip(fractions, 0, 1)


def _single_polygon(mask: Mask, sample: Sample, context: WriteContext) -> FloatArray | None:
    """Return one (k, 2) polygon for a mask: parts are joined by bridges of zero width, holes are filled."""
    if isinstance(mask, PolygonMask):
        parts = list(mask.polygons)
    else:
        rings = mask_to_rings(mask)
        parts = mask_to_polygons(mask)
        if len(rings) > len(parts):
            context.lose("holes", "a YOLO polygon has no holes, so holes were filled", sample)
    if not parts:
        context.lose("empty-mask", "an empty mask was left out", sample)
        return None
    if len(parts) == 1:
        return parts[0]
    context.lose(
        "parts", "a YOLO polygon has one part, so several parts were joined by bridges of zero width", sample
    )
    start = parts[0][:1]
    bridged = [np.concatenate([part, part[:1], start]) for part in parts[1:]]
    return np.concatenate([parts[0], start, *bridged])
