"""One box per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from blemish.decoding.box_predictions import boxes_prediction, to_corners, to_image_pixels
from blemish.decoding.decoder import DetectionFilter, Outputs, decoder, require_finite, require_output
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
    detection_filter: DetectionFilter,
) -> list[Prediction]:
    """Return the output of role `box`, (B, 4), as one box of label 0, clipped to the image.

    The network gives no score, so the score is 1. An output of activation `logits` passes through a sigmoid
    first.

    Settings:
        box_format: `cxcywh` (default), `xywh` or `xyxy`.
        normalized: whether the values are fractions of the input's width and height (default) or network
            pixels.
        coord_max: if set, the values are fractions of this number of pixels of the image itself, regardless
            of how the image was cropped or resized for the network.
    """
    raw, spec = require_output(contract, outputs, "box", (len(placements), 4))
    values = require_finite(np.asarray(raw, np.float64), "boxes")
    if spec.activation == "logits":
        values = sigmoid(values)
    settings = contract.decoder.settings
    boxes = to_corners(values, settings.get("box_format", "cxcywh"))
    normalized, coord_max = bool(settings.get("normalized", True)), settings.get("coord_max")
    predictions = []
    for box, placement in zip(boxes, placements, strict=True):
        if coord_max is None:
            image_box = to_image_pixels(box[None], placement, normalized=normalized)
        else:
            image_box = clip_boxes(box[None] * float(coord_max), placement.size_hw)
        predictions.append(
            boxes_prediction(contract, placement, image_box, np.ones(1), np.zeros(1, np.int64))
        )
    return predictions
