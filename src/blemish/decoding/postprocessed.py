"""Boxes that were suppressed in the graph, because a later head needed them: Faster and Mask R-CNN."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.decoding.box_predictions import BoxSettings, boxes_prediction
from blemish.decoding.decoder import DetectionFilter, Outputs, decoder, finite, output_of, required
from blemish.decoding.mask_grids import over_box
from blemish.decoding.scores import sigmoid
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction


@decoder("final")
def decode_final(
    contract: Contract, outputs: Outputs, placements: Sequence[Placement], selection: DetectionFilter
) -> list[Prediction]:
    """Outputs of the roles below, best first; rows of a label that does not exist fill up a batch.

    Roles, n being the number of boxes:
        boxes: (B, n, 4).
        scores: (B, n) in [0, 1].
        labels: (B, n) int.
        masks: (B, n, h, w), each covering its box; for segmentation.

    Settings:
        box_format: `xyxy` (the default), `cxcywh` or `xywh`.
        normalized: whether boxes are shares of the input's sides; network pixels by default.
        label_offset: the number of the first label in `labels`, 1 where 0 is background; 0 by default.
        score_floor: boxes below it are left out; the contract's where not given.
        max_detections: 300 by default.
        mask_threshold: the probability above which a pixel belongs to the mask, .5 by default.
    """
    count = len(placements)
    settings = contract.decoder.settings
    boxes, _ = required(contract, outputs, "boxes", (count, None, 4))
    scores, _ = required(contract, outputs, "scores", (count, boxes.shape[1]))
    labels, _ = required(contract, outputs, "labels", (count, boxes.shape[1]))
    masks = output_of(contract, outputs, "masks", (count, boxes.shape[1], None, None))
    if contract.task.has_masks and masks is None:
        raise BadModelFile("segmentation needs an output of the role 'masks'")
    of_boxes = BoxSettings.of(contract, selection)
    threshold = float(settings.get("mask_threshold", 0.5))
    predictions = []
    for i, placement in enumerate(placements):
        label = labels[i].astype(np.int64) - int(settings.get("label_offset", 0))
        score = np.asarray(finite(scores[i], "scores"), np.float64)
        there = np.flatnonzero((label >= 0) & (label < len(contract.labels)) & (score >= of_boxes.floor))
        there = there[np.argsort(-score[there], kind="stable")]
        corner, placed, inside = of_boxes.place(boxes[i][there], placement)
        left = np.flatnonzero(inside)[: of_boxes.most]
        there, corner, placed = there[left], corner[left], placed[left]
        drawn = None
        if contract.task.has_masks and masks is not None:
            grids = masks[0][i][there]
            grids = sigmoid(grids) if masks[1].activation == "logits" else grids
            sides = np.tile(placement.input_hw[::-1], 2) if of_boxes.normalized else np.ones(4)
            whole = placement.to_image(corner * sides)
            drawn = [
                over_box(grid, uncut, box, placement.size_hw, threshold)
                for grid, uncut, box in zip(grids, whole, placed, strict=True)
            ]
        predictions.append(
            boxes_prediction(
                contract, placement, placed, np.clip(score[there], 0.0, 1.0), label[there], drawn
            )
        )
    return predictions
