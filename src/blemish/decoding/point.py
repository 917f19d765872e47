"""One box an image, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.decoding.box_predictions import boxes_prediction, corners, in_image
from blemish.decoding.decoder import DetectionFilter, Outputs, decoder, finite, required
from blemish.decoding.scores import sigmoid
from blemish.geometry import clip_boxes
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction


@decoder("point")
def decode_point(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    selection: DetectionFilter,
) -> list[Prediction]:
    """The output of role `box`, (B, 4): the box of label 0, with score 1, since nothing doubts it.

    Settings:
        box_format: `cxcywh` (the default), `xywh` or `xyxy`.
        normalized: whether the numbers are shares of the input's width and height (the default) or
            network pixels.
        coord_max: where given, the numbers are shares of this many pixels of the image itself, whatever
            was cut off or resized on its way into the network.

    An output of activation `logits` goes through a sigmoid first. The box is cut at the image's edge.
    """
    raw, spec = required(contract, outputs, "box", (len(placements), 4))
    values = finite(np.asarray(raw, np.float64), "boxes")
    if spec.activation == "logits":
        values = sigmoid(values)
    settings = contract.decoder.settings
    boxes = corners(values, settings.get("box_format", "cxcywh"))
    normalized, coord_max = bool(settings.get("normalized", True)), settings.get("coord_max")
    predictions = []
    for box, placement in zip(boxes, placements, strict=True):
        if coord_max is None:
            placed = in_image(box[None], placement, normalized=normalized)
        else:
            placed = clip_boxes(box[None] * float(coord_max), placement.size_hw)
        predictions.append(boxes_prediction(contract, placement, placed, np.ones(1), np.zeros(1, np.int64)))
    return predictions
