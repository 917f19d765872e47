"""A set of boxes that needs no suppression: DETR and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.decoding.box_predictions import BoxSettings, boxes_prediction
from blemish.decoding.decoder import DetectionFilter, Outputs, decoder, finite, output_of, required
from blemish.decoding.mask_grids import over_input
from blemish.decoding.scores import probabilities, sigmoid
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction, Task


@decoder("set")
def decode_set(
    contract: Contract, outputs: Outputs, placements: Sequence[Placement], selection: DetectionFilter
) -> list[Prediction]:
    """Outputs of the roles below: the best pairs of query and label, best first.

    Roles, q being the number of queries:
        scores: (B, q, C).
        boxes: (B, q, 4).
        masks: (B, q, h, w) logits, each covering the whole input; for segmentation.

    Settings:
        score_function: `sigmoid` (the default) or `softmax` over all C columns, for logits.
        columns: which column of `scores` is each label; the first L where not given, if C is L.
        box_format: `cxcywh` (the default), `xywh` or `xyxy`.
        normalized: whether boxes are shares of the input's sides (the default) or network pixels.
        score_floor: pairs below it are left out; the contract's where not given.
        max_detections: 300 by default.
    """
    count = len(placements)
    raw, spec = required(contract, outputs, "scores", (count, None, None))
    boxes, _ = required(contract, outputs, "boxes", (count, raw.shape[1], 4))
    masks = output_of(contract, outputs, "masks", (count, raw.shape[1], None, None))
    if contract.task.has_masks and masks is None:
        raise BadModelFile("segmentation needs an output of the role 'masks'")
    columns = _columns(contract, raw.shape[2])
    of_boxes = BoxSettings.of(contract, selection, form="cxcywh", normalized=True)
    predictions = []
    for i, placement in enumerate(placements):
        scores = _scores(raw[i], contract, spec.activation)[:, columns]
        flat = scores.ravel()
        best = np.flatnonzero(flat >= of_boxes.floor)
        best = best[np.argsort(-flat[best], kind="stable")]
        query, label = np.divmod(best, len(columns))
        _, placed, inside = of_boxes.place(np.asarray(boxes[i], np.float64)[query], placement)
        left = np.flatnonzero(inside)[: of_boxes.most]
        query, label, best, placed = query[left], label[left], best[left], placed[left]
        drawn = None
        if contract.task.has_masks and masks is not None:
            drawn = [over_input(masks[0][i][q], box, placement) for q, box in zip(query, placed, strict=True)]
        predictions.append(boxes_prediction(contract, placement, placed, flat[best], label, drawn))
    return predictions


def _scores(raw: NDArray[Any], contract: Contract, activation: str) -> NDArray[np.float64]:
    """(q, C) float64 in [0, 1]."""
    if activation != "logits":
        return np.asarray(np.clip(finite(np.asarray(raw, np.float64), "scores"), 0.0, 1.0))
    if contract.decoder.settings.get("score_function", "sigmoid") == "softmax":
        return probabilities(raw, Task.CLASSIFICATION, temperature=contract.temperature)
    return sigmoid(finite(np.asarray(raw, np.float64), "scores") / contract.temperature)


def _columns(contract: Contract, given: int) -> list[int]:
    """Which column of the scores is each label."""
    labels = len(contract.labels)
    columns = contract.decoder.settings.get("columns")
    if columns is None:
        if given != labels:
            raise BadModelFile(
                f"the network scores {given} columns for {labels} labels, and its contract does not say "
                "which is which"
            )
        return list(range(labels))
    if len(columns) != labels or not all(0 <= c < given for c in columns):
        raise BadModelFile(f"the contract's columns {columns} do not fit {labels} labels and {given} columns")
    return [int(c) for c in columns]
