"""Boxes and scores before NMS: SSD, YOLO."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray, LazyMasks, Mask
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
from blemish.decoding.nms import highest, nms
from blemish.decoding.scores import sigmoid
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction

MAX_CANDIDATES = 30_000  # per image, highest scores first


class _Candidates(NamedTuple):
    """The network's candidates: of a batch with a leading axis B, of one image without it.

    Attributes:
        boxes: (B, n, 4).
        scores: (B, n, L) in [0, 1].
        coefficients: (B, n, K) of the mask prototypes, or None.
        prototypes: (B, K, h, w), or None.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    coefficients: NDArray[Any] | None
    prototypes: NDArray[Any] | None

    def of_image(self, row: int) -> _Candidates:
        """Return the candidates of one image of the batch."""
        return _Candidates(
            self.boxes[row],
            self.scores[row],
            None if self.coefficients is None else self.coefficients[row],
            None if self.prototypes is None else self.prototypes[row],
        )


@decoder("dense", decodes_boxes_without_masks=True)
def decode_dense(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    detection_filter: DetectionFilter,
) -> list[Prediction]:
    """Apply NMS per label to the outputs of the roles below, and return detections by descending score.

    Roles, with n candidates:
        boxes: (B, n, 4).
        scores: (B, n, L), without background.
        objectness: (B, n), multiplied into the scores; optional.
        coefficients, prototypes: (B, n, K) and (B, K, h, w), for masks; optional.
        combined: (B, n, 4 [+ 1] + L [+ K]): boxes, objectness (if set), scores and
            coefficients in one output, instead of the roles above.

    Settings:
        box_format: `xyxy` (default), `cxcywh` or `xywh`.
        normalized: whether boxes are fractions of the input's width and height. Default: network pixels.
        channels_first: whether n is the last axis of every output except the prototypes.
        objectness: whether `combined` contains objectness.
        multi_label: whether one box may have several labels (default) or only its best one.
        min_score: lower-scoring candidates are removed. Default: the contract's `min_score`.
        nms_iou: of two boxes of one label with a higher IoU, NMS removes the lower-scoring one.
            Default: 0.5.
        max_candidates: candidates that enter NMS. Default: 30,000.
        max_detections: detections that leave NMS. Default: 300.
    """
    batch = _candidates(contract, outputs, len(placements))
    return [
        _decode_image(contract, placement, detection_filter, batch.of_image(row))
        for row, placement in enumerate(placements)
    ]


def select_candidates(
    scores: NDArray[Any], min_score: float, *, multi_label: bool, max_candidates: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return row, label and score of the candidates that score at least `min_score`, in order of the rows.

    Args:
        scores: (n, L) in [0, 1].
        min_score: in [0, 1].
        multi_label: whether one row may give several candidates.
        max_candidates: only the highest-scoring ones are kept.
    """
    best = require_finite(scores.max(1, initial=-1.0), "scores")
    rows = np.flatnonzero(best >= min_score)
    if multi_label:
        at, label = np.nonzero(scores[rows] >= min_score)
        row = rows[at]
    else:
        row, label = rows, scores[rows].argmax(1)
    score = np.clip(scores[row, label].astype(np.float64), 0.0, 1.0)
    if len(score) > max_candidates:
        keep = highest(score, max_candidates)
        row, label, score = row[keep], label[keep], score[keep]
    return row, label, score


def _decode_image(
    contract: Contract, placement: Placement, detection_filter: DetectionFilter, candidates: _Candidates
) -> Prediction:
    """Return the prediction of one image."""
    settings = contract.decoder.settings
    box_settings = BoxSettings.from_contract(contract, detection_filter)
    row, label, score = select_candidates(
        candidates.scores,
        box_settings.min_score,
        multi_label=bool(settings.get("multi_label", True)),
        max_candidates=int(settings.get("max_candidates", MAX_CANDIDATES)),
    )
    rows, at = _unique(row, len(candidates.boxes))  # with several labels of one box, it is placed once
    network_boxes, image_boxes, is_visible = box_settings.place(candidates.boxes[rows], placement)
    network_boxes, image_boxes = network_boxes[at], image_boxes[at]
    visible = np.flatnonzero(is_visible[at])  # a box without visible area must not suppress a visible one
    nms_iou = float(settings.get("nms_iou", 0.5))
    kept = visible[
        nms(
            network_boxes[visible],
            score[visible],
            label[visible],
            nms_iou,
            max_kept=box_settings.max_detections,
        )
    ]
    image_boxes = image_boxes[kept]
    masks: tuple[Mask, ...] | LazyMasks | None = None
    if contract.task.has_masks:
        if candidates.coefficients is None or candidates.prototypes is None:
            raise BadModelFile(
                "contract: segmentation needs outputs of the roles 'coefficients' and 'prototypes'",
                reason="missing-role",
            )
        masks = detection_filter.masks(
            [
                partial(mask_over_input, candidates.prototypes, box, placement, weights=weights)
                for weights, box in zip(candidates.coefficients[row[kept]], image_boxes, strict=True)
            ]
        )
    return boxes_prediction(contract, placement, image_boxes, score[kept], label[kept], masks)


def _unique(row: IntArray, count: int) -> tuple[IntArray, IntArray]:
    """Return the rows that occur in `row`, ascending, and the position of each entry of `row` among them.

    Args:
        row: (n,) int in [0, count).
        count: number of rows.
    """
    occurs = np.zeros(count, bool)
    occurs[row] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[row]


def _candidates(contract: Contract, outputs: Outputs, batch_size: int) -> _Candidates:
    """Return the candidates of a batch, whichever layout the contract describes."""
    settings = contract.decoder.settings
    label_count = len(contract.labels)
    is_channels_first = bool(settings.get("channels_first", False))

    def rows_first(array: NDArray[Any]) -> NDArray[Any]:
        return array.swapaxes(1, 2) if is_channels_first else array

    def optional(role: str, axes: int) -> NDArray[Any] | None:
        match = find_output(contract, outputs, role, (batch_size, *[None] * axes))
        return None if match is None else match[0]

    combined = find_output(contract, outputs, "combined", (batch_size, None, None))
    if combined is not None:
        columns, spec = rows_first(combined[0]), combined[1]
        start = 5 if settings.get("objectness", False) else 4
        if columns.shape[2] < start + label_count:
            raise BadModelFile(
                f"output {spec.name!r}: expected at least {start + label_count} columns for {label_count} "
                f"labels, got {columns.shape[2]}",
                reason="output-shape",
            )
        boxes, scores = columns[..., :4], columns[..., start : start + label_count]
        objectness = columns[..., 4] if start == 5 else None
        coefficients: NDArray[Any] | None = columns[..., start + label_count :]
    else:
        boxes = rows_first(require_output(contract, outputs, "boxes", (batch_size, None, None))[0])
        raw_scores, spec = require_output(contract, outputs, "scores", (batch_size, None, None))
        scores = rows_first(raw_scores)
        objectness = optional("objectness", 1)
        coefficients = optional("coefficients", 2)
        coefficients = None if coefficients is None else rows_first(coefficients)
    if boxes.shape[2] != 4 or scores.shape[2] != label_count or boxes.shape[1] != scores.shape[1]:
        raise BadModelFile(
            f"outputs: expected boxes (n, 4) and scores (n, {label_count}) for {label_count} labels, "
            f"got {boxes.shape[1:]} and {scores.shape[1:]}",
            reason="output-shape",
        )
    if spec.activation == "logits":
        scores = sigmoid(scores / contract.temperature)
        objectness = None if objectness is None else sigmoid(objectness)
    if objectness is not None:
        scores = scores * objectness[..., None]
    return _Candidates(boxes, scores, coefficients, optional("prototypes", 3))
