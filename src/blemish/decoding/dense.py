"""Boxes and scores before suppression: SSD, YOLO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.decoding.box_predictions import BoxSettings, boxes_prediction
from blemish.decoding.decoder import DetectionFilter, Outputs, decoder, finite, output_of, required
from blemish.decoding.mask_grids import over_input
from blemish.decoding.nms import nms
from blemish.decoding.scores import sigmoid
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction

MAX_CANDIDATES = 30_000  # what goes into suppression an image, best first


@decoder("dense")
def decode_dense(
    contract: Contract, outputs: Outputs, placements: Sequence[Placement], selection: DetectionFilter
) -> list[Prediction]:
    """Outputs of the roles below, suppressed per label, best first.

    Roles, n being the number of candidates:
        boxes: (B, n, 4).
        scores: (B, n, L), without background.
        objectness: (B, n), multiplied into the scores; optional.
        coefficients, prototypes: (B, n, K) and (B, K, h, w), for masks; optional.
        combined: (B, n, 4 [+ 1] + L [+ K]): boxes, objectness where the setting says so, scores and
            coefficients in one output, instead of the roles above.

    Settings:
        box_format: `xyxy` (the default), `cxcywh` or `xywh`.
        normalized: whether boxes are shares of the input's sides; network pixels by default.
        channels_first: whether n is the last axis of every output but the prototypes.
        objectness: whether `combined` holds it.
        multi_label: whether one box may say several labels (the default) or only its best one.
        score_floor: candidates below it are left out; the contract's where not given.
        max_iou: overlap above which the lower of two boxes of one label goes, .5 by default.
        max_candidates: into suppression.
        max_detections: out of it, 300 by default.
    """
    predictions = []
    parts = _parts(contract, outputs, len(placements))
    prototypes = output_of(contract, outputs, "prototypes", (len(placements), None, None, None))
    for i, placement in enumerate(placements):
        boxes, scores, coefficients = (None if part is None else part[i] for part in parts)
        assert boxes is not None and scores is not None  # noqa: S101  (required roles)
        protos = None if prototypes is None else prototypes[0][i]
        predictions.append(_one(contract, placement, selection, boxes, scores, coefficients, protos))
    return predictions


def _one(
    contract: Contract,
    placement: Placement,
    selection: DetectionFilter,
    boxes: NDArray[Any],
    scores: NDArray[Any],
    coefficients: NDArray[Any] | None,
    prototypes: NDArray[Any] | None,
) -> Prediction:
    settings = contract.decoder.settings
    of_boxes = BoxSettings.of(contract, selection)
    row, label, score = candidates(
        scores,
        of_boxes.floor,
        multi_label=bool(settings.get("multi_label", True)),
        most=int(settings.get("max_candidates", MAX_CANDIDATES)),
    )
    taken, placed, there = of_boxes.place(boxes[row], placement)
    inside = np.flatnonzero(there)  # what has nothing left takes no better box's place
    max_iou = float(settings.get("max_iou", 0.5))
    kept = inside[nms(taken[inside], score[inside], label[inside], max_iou, of_boxes.most)]
    placed = placed[kept]
    masks = None
    if contract.task.has_masks:
        if coefficients is None or prototypes is None:
            raise BadModelFile("segmentation needs outputs of the roles 'coefficients' and 'prototypes'")
        masks = [
            over_input(prototypes, box, placement, weights=weights)
            for weights, box in zip(coefficients[row[kept]], placed, strict=True)
        ]
    return boxes_prediction(contract, placement, placed, score[kept], label[kept], masks)


def candidates(
    scores: NDArray[Any], floor: float, *, multi_label: bool, most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Row, label and score of the candidates at `floor` or above, at most `most`, in the rows' order.

    Args:
        scores: (n, L) in [0, 1].
        floor: in [0, 1].
        multi_label: whether a row may give several.
        most: the best are kept.
    """
    best = finite(scores.max(1, initial=-1.0), "scores")
    rows = np.flatnonzero(best >= floor)
    if multi_label:
        at, label = np.nonzero(scores[rows] >= floor)
        row = rows[at]
    else:
        row, label = rows, scores[rows].argmax(1)
    score = np.clip(scores[row, label].astype(np.float64), 0.0, 1.0)
    if len(score) > most:
        keep = np.sort(np.argsort(-score, kind="stable")[:most])
        row, label, score = row[keep], label[keep], score[keep]
    return row, label, score


def _parts(
    contract: Contract, outputs: Outputs, count: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    """Boxes (B, n, 4), scores (B, n, L) in [0, 1] and mask coefficients (B, n, K) or None."""
    settings = contract.decoder.settings
    labels = len(contract.labels)
    first = bool(settings.get("channels_first", False))

    def rows(array: NDArray[Any]) -> NDArray[Any]:
        return array.swapaxes(1, 2) if first else array

    coefficients = None
    objectness = None
    combined = output_of(contract, outputs, "combined", (count, None, None))
    if combined is not None:
        whole, spec = rows(combined[0]), combined[1]
        start = 5 if settings.get("objectness", False) else 4
        if whole.shape[2] < start + labels:
            raise BadModelFile(f"the output {spec.name!r} has {whole.shape[2]} columns for {labels} labels")
        boxes, scores = whole[..., :4], whole[..., start : start + labels]
        objectness = whole[..., 4] if start == 5 else None
        coefficients = whole[..., start + labels :]
    else:
        boxes = rows(required(contract, outputs, "boxes", (count, None, None))[0])
        found, spec = required(contract, outputs, "scores", (count, None, None))
        scores = rows(found)
        seen = output_of(contract, outputs, "objectness", (count, None))
        objectness = None if seen is None else seen[0]
        given = output_of(contract, outputs, "coefficients", (count, None, None))
        coefficients = None if given is None else rows(given[0])
    if boxes.shape[2] != 4 or scores.shape[2] != labels or boxes.shape[1] != scores.shape[1]:
        raise BadModelFile(
            f"the network gave boxes of shape {boxes.shape} and scores of shape {scores.shape} "
            f"for {labels} labels"
        )
    if spec.activation == "logits":
        scores = sigmoid(scores / contract.temperature)
        objectness = None if objectness is None else sigmoid(objectness)
    if objectness is not None:
        scores = scores * objectness[..., None]
    return boxes, scores, coefficients
