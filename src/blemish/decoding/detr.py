"""A set of boxes that needs no NMS: DETR and its descendants."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.decoding.box_predictions import BoxSettings, boxes_prediction
from blemish.decoding.decoder import (
    DetectionFilter,
    Outputs,
    decoder,
    find_output,
    require_finite,
    require_output,
)
from blemish.decoding.mask_grids import mask_over_input
from blemish.decoding.scores import sigmoid, softmax
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction


@decoder("set", decodes_boxes_without_masks=True)
def decode_set(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    detection_filter: DetectionFilter,
) -> list[Prediction]:
    """Return the highest-scoring pairs of query and label, by descending score.

    Roles, with q queries:
        scores: (B, q, C).
        boxes: (B, q, 4).
        masks: (B, q, h, w) logits, each covering the whole input; for segmentation.

    Settings:
        score_function: `sigmoid` (default) or `softmax` over all C columns, for logits.
        columns: the column of `scores` of each label. Default: column i is label i, which needs C = L.
        box_format: `cxcywh` (default), `xywh` or `xyxy`.
        normalized: whether boxes are fractions of the input's width and height (default) or network pixels.
        min_score: lower-scoring pairs are removed. Default: the contract's `min_score`.
        max_detections: Default: 300.
    """
    batch_size = len(placements)
    raw, spec = require_output(contract, outputs, "scores", (batch_size, None, None))
    boxes, _ = require_output(contract, outputs, "boxes", (batch_size, raw.shape[1], 4))
    masks = find_output(contract, outputs, "masks", (batch_size, raw.shape[1], None, None))
    if contract.task.has_masks and masks is None:
        raise BadModelFile("contract: segmentation needs an output of role 'masks'", reason="missing-role")
    columns = _label_columns(contract, raw.shape[2])
    box_settings = BoxSettings.from_contract(contract, detection_filter, box_format="cxcywh", normalized=True)
    predictions = []
    for i, placement in enumerate(placements):
        scores = _pair_scores(raw[i], contract, spec.activation)[:, columns].ravel()  # (q * L,)
        best = np.flatnonzero(scores >= box_settings.min_score)
        best = best[np.argsort(-scores[best], kind="stable")]
        query, label = np.divmod(best, len(columns))
        _, image_boxes, is_visible = box_settings.place(np.asarray(boxes[i], np.float64)[query], placement)
        kept = np.flatnonzero(is_visible)[: box_settings.max_detections]
        query, label, best, image_boxes = query[kept], label[kept], best[kept], image_boxes[kept]
        image_masks = None
        if contract.task.has_masks and masks is not None:
            image_masks = detection_filter.masks(
                [
                    partial(mask_over_input, masks[0][i][q], box, placement)
                    for q, box in zip(query, image_boxes, strict=True)
                ]
            )
        predictions.append(
            boxes_prediction(contract, placement, image_boxes, scores[best], label, image_masks)
        )
    return predictions


def _pair_scores(raw: NDArray[Any], contract: Contract, activation: str) -> FloatArray:
    """Return (q, C) float64 scores in [0, 1]."""
    values = require_finite(np.asarray(raw, np.float64), "scores")
    if activation != "logits":
        return np.asarray(np.clip(values, 0.0, 1.0))
    logits = values / contract.temperature
    if contract.decoder.settings.get("score_function", "sigmoid") == "softmax":
        return softmax(logits)
    return sigmoid(logits)


def _label_columns(contract: Contract, column_count: int) -> list[int]:
    """Return the column of the scores that belongs to each label."""
    label_count = len(contract.labels)
    columns = contract.decoder.settings.get("columns")
    if columns is None:
        if column_count != label_count:
            raise BadModelFile(
                f"contract: the network scores {column_count} columns for {label_count} labels; "
                "set the decoder's 'columns'",
                reason="score-columns",
            )
        return list(range(label_count))
    if len(columns) != label_count or not all(0 <= c < column_count for c in columns):
        raise BadModelFile(
            f"contract: columns: expected {label_count} numbers below {column_count}, got {columns}",
            reason="score-columns",
        )
    return [int(c) for c in columns]
