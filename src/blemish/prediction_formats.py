"""Predictions in the formats of other libraries: COCO's results and supervision's types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.errors import UnknownName, WrongTask

if TYPE_CHECKING:
    from blemish.structures import Prediction


def to_coco(
    prediction: Prediction, image_id: int | str, category_ids: Mapping[str, int] | None
) -> list[dict[str, Any]]:
    """Return the detections in COCO's results format; see `Prediction.to_coco`."""
    from blemish.geometry import rle_to_text, xyxy_to_xywh

    if prediction.boxes_xyxy is None:
        raise WrongTask(f"to_coco: expected a task with boxes, got {prediction.task}", reason="needs-boxes")
    results = []
    for row, (index, box) in enumerate(zip(prediction.label_index, prediction.boxes_xyxy, strict=True)):
        result = {
            "image_id": image_id,
            "category_id": _category_id(prediction, int(index), category_ids),
            "bbox": xyxy_to_xywh(box[None])[0].tolist(),
            "score": float(prediction.scores[row]),
        }
        if prediction.masks is not None:
            mask = prediction.masks[row]
            result["segmentation"] = {"size": list(mask.size_hw), "counts": rle_to_text(mask)}
        results.append(result)
    return results


def to_supervision(prediction: Prediction) -> Any:
    """Return supervision's type of the prediction; see `Prediction.to_supervision`."""
    from importlib import import_module

    from blemish.geometry import mask_to_array

    supervision: Any = import_module("supervision")
    labels = prediction.labels
    if prediction.boxes_xyxy is None:
        return supervision.Classifications(
            class_id=np.arange(len(labels)), confidence=prediction.label_scores.copy()
        )
    masks = None
    if prediction.masks is not None:
        empty = np.zeros((0, *(prediction.size_hw or (0, 0))), bool)
        masks = np.stack([mask_to_array(mask) for mask in prediction.masks]) if prediction.masks else empty
    names = [labels.names[i] if labels.names else "" for i in prediction.label_index]
    return supervision.Detections(
        xyxy=prediction.boxes_xyxy.copy(),
        mask=masks,
        confidence=prediction.scores.copy(),
        class_id=prediction.label_index.copy(),
        data={"class_name": np.array(names, dtype=str)},
    )


def _category_id(prediction: Prediction, index: int, category_ids: Mapping[str, int] | None) -> int:
    if category_ids is None or not len(prediction.labels):
        return index + 1
    name = prediction.labels.names[index]
    if name not in category_ids:
        raise UnknownName("label", name, category_ids, where="category_ids")
    return category_ids[name]
