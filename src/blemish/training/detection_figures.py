"""What detections on the validation photographs are worth: by the metrics of `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blemish.geometry import rle_to_text, xyxy_to_xywh
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


def _average_precision(
    predictions: Sequence[Prediction], samples: Sequence[Sample], kind: str
) -> dict[str, float]:
    from hotcoco import COCO, COCOeval

    truths, finds, images = [], [], []
    for number, (prediction, sample) in enumerate(zip(predictions, samples, strict=True), 1):
        assert prediction.size_hw is not None  # noqa: S101  (the decoder says it)
        images.append({"id": number, "height": prediction.size_hw[0], "width": prediction.size_hw[1]})
        if sample.truth is not None:
            for row in _rows(sample.truth, number):
                index = row.pop("row")
                crowd = int(sample.truth.crowd[index])
                truths.append({**row, "id": len(truths) + 1, "iscrowd": crowd})
        for row in _rows(prediction, number):
            finds.append({**row, "score": float(prediction.scores[row.pop("row")])})
    names = predictions[0].labels.names if predictions else ()
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    if not finds or not truths:
        return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    truth = COCO({"images": images, "annotations": truths, "categories": categories})
    evaluation = COCOeval(truth, truth.load_res(finds), kind)
    evaluation.evaluate()
    evaluation.accumulate()
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
