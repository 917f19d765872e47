"""What detections on the validation photographs are worth: by the metrics of `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.geometry import pairwise_iou, rle_to_text, xyxy_to_xywh
from blemish.vocabulary import Prediction, Sample, Task


def detection_figures(predictions: Sequence[Prediction], samples: Sequence[Sample]) -> dict[str, float]:
    """`ap`, `ap50`, `ap75` by COCO's rules: of the masks for segmentation, where the boxes' are `box_ap`, ….

    Args:
        predictions: in the order of the samples.
        samples: with truths.
    """
    figures: dict[str, float] = {}
    masks = bool(predictions) and predictions[0].task is Task.SEGMENTATION
    for prefix, kind in (("", "segm"), ("box_", "bbox")) if masks else (("", "bbox"),):
        found = _average_precision(predictions, samples, kind)
        figures |= {f"{prefix}{name}": value for name, value in found.items()}
    return figures


def best_thresholds(
    predictions: Sequence[Prediction], samples: Sequence[Sample], min_iou: float = 0.5
) -> NDArray[np.float64]:
    """(L,) the score from which each label has its best F1; .5 for a label that is never rightly found.

    A box is right if it overlaps a truth of its label that no better box has taken by `min_iou`. The
    threshold stands midway between neighbouring scores, so that rounding flips no verdict.
    """
    count = len(predictions[0].labels) if predictions else 0
    scores: list[list[float]] = [[] for _ in range(count)]
    right: list[list[bool]] = [[] for _ in range(count)]
    positives = np.zeros(count, np.int64)
    for prediction, sample in zip(predictions, samples, strict=True):
        truth = sample.truth
        for label in range(count):
            mine = np.flatnonzero(prediction.label_index == label)
            theirs = _boxes_of(truth, label)
            positives[label] += len(theirs)
            overlap = pairwise_iou(_boxes_of(prediction, label), theirs)
            for row, place in enumerate(mine):  # best first
                best = int(overlap[row].argmax()) if len(theirs) else -1
                hit = best >= 0 and overlap[row, best] >= min_iou
                if hit:
                    overlap[:, best] = -1
                scores[label].append(float(prediction.scores[place]))
                right[label].append(hit)
    chosen = np.full(count, 0.5)
    for label in range(count):
        order = np.argsort(-np.array(scores[label]), kind="stable")
        sorted_scores = np.array(scores[label])[order]
        hits = np.cumsum(np.array(right[label], np.int64)[order])
        if not len(hits) or not hits[-1]:
            continue
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + positives[label])
        last = np.append(sorted_scores[1:] < sorted_scores[:-1], True)  # equal scores stand or fall together
        at = int(np.where(last, f1, -1).argmax())
        below = sorted_scores[at + 1] if at + 1 < len(hits) else 0.0
        chosen[label] = (sorted_scores[at] + below) / 2
    return chosen


def _boxes_of(annotation: Any, label: int) -> NDArray[np.float64]:
    if annotation is None:
        return np.zeros((0, 4))
    boxes: NDArray[np.float64] = annotation.boxes_xyxy[annotation.label_index == label]
    return boxes


def _average_precision(
    predictions: Sequence[Prediction], samples: Sequence[Sample], kind: str
) -> dict[str, float]:
    from hotcoco import COCO, COCOeval

    truths: list[dict[str, Any]] = []
    finds: list[dict[str, Any]] = []
    images = []
    for number, (prediction, sample) in enumerate(zip(predictions, samples, strict=True), 1):
        assert prediction.size_hw is not None  # noqa: S101  (the decoder says it)
        images.append({"id": number, "height": prediction.size_hw[0], "width": prediction.size_hw[1]})
        if sample.truth is not None:
            for row in _rows(sample.truth, number):
                crowd = int(sample.truth.crowd[row["row"]])
                truths.append({**row, "id": len(truths) + 1, "iscrowd": crowd})
        finds += [{**row, "score": float(prediction.scores[row["row"]])} for row in _rows(prediction, number)]
    names = predictions[0].labels.names if predictions else ()
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    if not finds or not truths:
        return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    truth = COCO({"images": images, "annotations": truths, "categories": categories})
    evaluation = COCOeval(truth, truth.load_res(finds), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.eval is not None  # noqa: S101  (accumulated above)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (iou, recall, label)
    held = (precision > -1).any((0, 1))
    chosen = {"ap": slice(None), "ap50": slice(0, 1), "ap75": slice(5, 6)}
    return {name: float(precision[at][:, :, held].mean()) for name, at in chosen.items()}


def _rows(annotation: Any, image: int) -> list[dict[str, Any]]:
    rows = []
    boxes = xyxy_to_xywh(annotation.boxes_xyxy)
    for row in range(len(annotation)):
        x, y, w, h = (float(v) for v in boxes[row])
        found: dict[str, Any] = {
            "row": row,
            "image_id": image,
            "category_id": int(annotation.label_index[row]) + 1,
            "bbox": [x, y, w, h],
            "area": w * h,
        }
        if annotation.masks is not None:
            mask = annotation.masks[row]
            found["area"] = float(mask.area)
            found["segmentation"] = {"size": list(mask.size_hw), "counts": rle_to_text(mask)}
        rows.append(found)
    return rows
