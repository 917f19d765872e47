"""Scenes of boxes and masks, and their evaluation by pycocotools."""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from blemish.arrays import Mask
from blemish.geometry import mask_from_array
from blemish.metrics.object_arrays import ObjectArrays

SIZE_HW = (200, 240)


def objects(rows, images, labels, *, masks=None, areas=None):
    """Return objects from rows of image, label, x1, y1, x2, y2, score, crowd and difficult."""
    table = np.array(rows, float).reshape(-1, 9)
    order = np.argsort(table[:, 0], kind="stable")
    table = table[order]
    boxes = table[:, 2:6]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    held = None if masks is None else tuple(masks[i] for i in order)
    if held is not None:
        area = np.array([m.area for m in held], float)
    if areas is not None:
        area = np.asarray(areas, float)[order]
    return ObjectArrays(
        images=images,
        label_count=labels,
        image=table[:, 0].astype(int),
        label=table[:, 1].astype(int),
        boxes=boxes,
        area=area,
        score=table[:, 6],
        crowd=table[:, 7].astype(bool),
        difficult=table[:, 8].astype(bool),
        masks=held,
    )


def row(image, label, box, score=1.0, crowd=0, difficult=0):
    """Return one row for `objects`."""
    return [image, label, *box, score, crowd, difficult]


def scene(ground_truth_rows, detection_rows, images=2, labels=2, areas=None):
    """Return the ground truths and the detections of rows."""
    return objects(ground_truth_rows, images, labels, areas=areas), objects(detection_rows, images, labels)


def ellipse(box, size_hw=SIZE_HW):
    """Return the mask of an ellipse in a box."""
    x1, y1, x2, y2 = box
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    rx, ry = max((x2 - x1) / 2, 1e-6), max((y2 - y1) / 2, 1e-6)
    return mask_from_array(((x - (x1 + x2) / 2) / rx) ** 2 + ((y - (y1 + y2) / 2) / ry) ** 2 <= 1)


def random_scene(seed, *, images=30, labels=4, per_image=6, masks=False, whole=True, levels=None, crowds=0.1):
    """Return ground truths and detections: shifted, with a wrong label, duplicated, or on the background."""
    rng = np.random.default_rng(seed)
    ground_truths, detections = [], []
    for image in range(images):
        for _ in range(rng.integers(0, per_image + 1)):
            size = rng.choice([10, 40, 120], 2) * rng.uniform(0.5, 1, 2)
            corner = rng.uniform(0, [SIZE_HW[1] - size[0], SIZE_HW[0] - size[1]])
            box = np.concatenate([corner, corner + size])
            label = rng.integers(0, labels)
            ground_truths.append([image, label, *box, 1, rng.random() < crowds, rng.random() < 0.2])
            for _ in range(rng.choice([0, 1, 1, 2, 3])):
                shaken = box + rng.normal(size=4) * size.mean() * rng.choice([0.02, 0.1, 0.3])
                shaken = np.concatenate(
                    [np.minimum(shaken[:2], shaken[2:]), np.maximum(shaken[:2], shaken[2:])]
                )
                name = label if rng.random() < 0.8 else rng.integers(0, labels)
                detections.append([image, name, *shaken, rng.random(), 0, 0])
        for _ in range(rng.integers(0, 3)):
            corner = rng.uniform(0, 150, 2)
            detections.append([image, rng.integers(0, labels), *corner, *(corner + 30), rng.random(), 0, 0])
    true_rows = np.array(ground_truths, float).reshape(-1, 9)
    found_rows = np.array(detections, float).reshape(-1, 9)
    if whole:
        true_rows[:, 2:6], found_rows[:, 2:6] = true_rows[:, 2:6].round(), found_rows[:, 2:6].round()
    if levels:
        found_rows[:, 6] = np.round(found_rows[:, 6] * levels) / levels
    ellipses = [[ellipse(row[2:6]) for row in side] if masks else None for side in (true_rows, found_rows)]
    return (
        objects(true_rows, images, labels, masks=ellipses[0]),
        objects(found_rows, images, labels, masks=ellipses[1]),
    )


def encoded(mask: Mask) -> Any:
    plain = {"size": list(mask.size_hw), "counts": mask.counts.tolist()}
    return mask_api.frPyObjects(plain, *mask.size_hw)


def pycocotools_eval(ground_truths, detections, weights=None):
    """Return the evaluated and accumulated COCOeval, with each image repeated by its weight."""
    times = np.ones(ground_truths.images, int) if weights is None else np.asarray(weights, int)
    kind = "bbox" if ground_truths.masks is None else "segm"
    images: list[dict[str, int]] = []
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for image in range(ground_truths.images):
        for _ in range(times[image]):
            images.append({"id": len(images) + 1, "height": SIZE_HW[0], "width": SIZE_HW[1]})
            for side, annotations in zip((ground_truths, detections), sides, strict=True):
                for i in np.flatnonzero(side.image == image):
                    x1, y1, x2, y2 = side.boxes[i]
                    entry = {
                        "id": len(annotations) + 1,
                        "image_id": len(images),
                        "category_id": int(side.label[i]) + 1,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": float(side.area[i]),
                        "iscrowd": int(side.crowd[i]),
                    }
                    if side is detections:
                        entry["score"] = float(side.score[i])
                    if side.masks is not None:
                        entry["segmentation"] = encoded(side.masks[i])
                        if side is detections:
                            del entry["bbox"]
                    annotations.append(entry)
    categories = [{"id": i + 1, "name": str(i)} for i in range(ground_truths.label_count)]
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = {
            "images": images,
            "annotations": sides[0],
            "categories": categories,
            "info": {},
        }
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(sides[1]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
