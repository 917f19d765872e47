"""Boxes after NMS in the graph, because a later head of the network needs them: Faster and Mask R-CNN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from blemish.decoding.box_predictions import BoxSettings, boxes_prediction
from blemish.decoding.decoder import (
    DetectionFilter,
    Outputs,
    decoder,
    find_output,
    require_finite,
    require_output,
)
from blemish.decoding.mask_grids import mask_over_box
from blemish.decoding.scores import sigmoid
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction


@decoder("final", decodes_boxes_without_masks=True)
def decode_final(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    detection_filter: DetectionFilter,
) -> list[Prediction]:
    """Return the boxes of the graph by descending score.

    Rows whose label does not exist are padding, with which the graph fills a batch.

    Roles, with n boxes:
        boxes: (B, n, 4).
        scores: (B, n) in [0, 1].
        labels: (B, n) int.
        masks: (B, n, h, w), each covering its box; for segmentation.

    Settings:
        box_format: `xyxy` (default), `cxcywh` or `xywh`.
        normalized: whether boxes are fractions of the input's width and height. Default: network pixels.
        label_offset: number of the first label in `labels`: 1 if 0 is background. Default: 0.
        min_score: lower-scoring boxes are removed. Default: the contract's `min_score`.
        max_detections: Default: 300.
        mask_threshold: pixels of a higher probability belong to the mask. Default: 0.5.
    """
    batch_size = len(placements)
    settings = contract.decoder.settings
    boxes, _ = require_output(contract, outputs, "boxes", (batch_size, None, 4))
    scores, _ = require_output(contract, outputs, "scores", (batch_size, boxes.shape[1]))
    labels, _ = require_output(contract, outputs, "labels", (batch_size, boxes.shape[1]))
    masks = find_output(contract, outputs, "masks", (batch_size, boxes.shape[1], None, None))
    if contract.task.has_masks and masks is None:
        raise BadModelFile("contract: segmentation needs an output of role 'masks'", reason="missing-role")
    box_settings = BoxSettings.from_contract(contract, detection_filter)
    threshold = float(settings.get("mask_threshold", 0.5))
    predictions = []
    for i, placement in enumerate(placements):
        label = labels[i].astype(np.int64) - int(settings.get("label_offset", 0))
        score = np.asarray(require_finite(scores[i], "scores"), np.float64)
        is_label = (label >= 0) & (label < len(contract.labels))
        rows = np.flatnonzero(is_label & (score >= box_settings.min_score))
        rows = rows[np.argsort(-score[rows], kind="stable")]
        network_boxes, image_boxes, is_visible = box_settings.place(boxes[i][rows], placement)
        kept = np.flatnonzero(is_visible)[: box_settings.max_detections]
        rows, network_boxes, image_boxes = rows[kept], network_boxes[kept], image_boxes[kept]
        image_masks = None
        if contract.task.has_masks and masks is not None:
            grids = masks[0][i][rows]
            grids = sigmoid(grids) if masks[1].activation == "logits" else grids
            unit = np.tile(placement.input_hw[::-1], 2) if box_settings.normalized else np.ones(4)
            unclipped = placement.to_image(network_boxes * unit)
            image_masks = detection_filter.masks(
                [
                    partial(mask_over_box, grid, whole, box, placement.size_hw, threshold)
                    for grid, whole, box in zip(grids, unclipped, image_boxes, strict=True)
                ]
            )
        predictions.append(
            boxes_prediction(
                contract, placement, image_boxes, np.clip(score[rows], 0.0, 1.0), label[rows], image_masks
            )
        )
    return predictions
