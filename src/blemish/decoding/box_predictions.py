"""What all decoders of boxes share: score limit, box format, and the map back to the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray, LazyMasks, Mask
from blemish.decoding.decoder import DetectionFilter, require_finite
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction

BOX_FORMATS = ("xyxy", "cxcywh", "xywh")


@dataclass(frozen=True)
class BoxSettings:
    """Box settings of a contract, restricted by the caller's filter.

    Attributes:
        min_score: lower-scoring candidates are removed.
        max_detections: only the highest-scoring boxes of an image are kept.
        box_format: format of the network's boxes; see `to_corners`.
        normalized: whether boxes are fractions of the input's width and height instead of network pixels.
    """

    min_score: float
    max_detections: int
    box_format: str
    normalized: bool

    @classmethod
    def from_contract(
        cls,
        contract: Contract,
        detection_filter: DetectionFilter,
        *,
        box_format: str = "xyxy",
        normalized: bool = False,
    ) -> Self:
        """Read `min_score`, `max_detections`, `box_format` and `normalized` from the decoder's settings.

        Args:
            contract: its `min_score` applies if the decoder's settings have none.
            detection_filter: can raise the minimum score, but not lower it.
            box_format: default if the contract does not set it.
            normalized: default if the contract does not set it.
        """
        settings = contract.decoder.settings
        return cls(
            max(float(settings.get("min_score", contract.min_score)), detection_filter.min_score or 0.0),
            detection_filter.max_detections or int(settings.get("max_detections", 300)),
            settings.get("box_format", box_format),
            bool(settings.get("normalized", normalized)),
        )

    def place(
        self, boxes: NDArray[Any], placement: Placement
    ) -> tuple[NDArray[Any], FloatArray, NDArray[np.bool_]]:
        """Return boxes in the image.

        Args:
            boxes: (n, 4) in the network's format.
            placement: the image's position in the network's input.

        Returns:
            (n, 4) xyxy in the network's unit; (n, 4) float64 xyxy in image pixels, clipped to the image;
            and (n,) bool: whether any area is inside the image. A box entirely in the padding of a letterbox
            has none.

        Raises:
            BadModelFile: boxes are not finite, or the contract names an unknown box format.
        """
        network_boxes = to_corners(require_finite(boxes, "boxes"), self.box_format)
        image_boxes = to_image_pixels(network_boxes, placement, normalized=self.normalized)
        is_visible = (image_boxes[:, 2] > image_boxes[:, 0]) & (image_boxes[:, 3] > image_boxes[:, 1])
        return network_boxes, image_boxes, is_visible


def boxes_prediction(
    contract: Contract,
    placement: Placement,
    boxes_xyxy: FloatArray,
    scores: FloatArray,
    label_index: IntArray,
    masks: list[Mask] | tuple[Mask, ...] | LazyMasks | None = None,
) -> Prediction:
    """Return a prediction from boxes in image pixels, sorted by descending score.

    Args:
        contract: gives labels, task and thresholds.
        placement: gives the image's size.
        boxes_xyxy: (n, 4) image pixels, inside the image.
        scores: (n,) in [0, 1], descending.
        label_index: (n,) int.
        masks: one per box, or None.
    """
    labels = contract.to_labels()
    label_scores = np.zeros(len(labels), np.float64)
    if len(labels):
        np.maximum.at(label_scores, label_index, scores)
    return Prediction(
        task=contract.task,
        labels=labels,
        size_hw=placement.size_hw,
        label_index=label_index,
        boxes_xyxy=boxes_xyxy,
        masks=tuple(masks) if isinstance(masks, list) else masks,
        scores=scores,
        label_scores=label_scores,
        thresholds=contract.threshold_array(),
    )


def to_corners(boxes: NDArray[Any], box_format: str) -> NDArray[Any]:
    """Return (n, 4) xyxy boxes with x1 <= x2 and y1 <= y2 from boxes of another format.

    Args:
        boxes: (n, 4) float.
        box_format: `xyxy`, `cxcywh` (center and size) or `xywh` (top left corner and size).

    Raises:
        BadModelFile: the format is unknown.
    """
    if box_format == "xyxy":
        first, second = boxes[:, :2], boxes[:, 2:]
    elif box_format == "cxcywh":
        first, second = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    elif box_format == "xywh":
        first, second = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    else:
        raise BadModelFile(
            f"contract: box_format: expected {', '.join(BOX_FORMATS)}, got {box_format!r}",
            reason="box-format",
        )
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], 1)


def to_image_pixels(boxes_xyxy: NDArray[Any], placement: Placement, *, normalized: bool) -> FloatArray:
    """Return (n, 4) float64 boxes in image pixels, clipped to the image.

    Args:
        boxes_xyxy: (n, 4) network pixels, or fractions of the input's width and height.
        placement: the image's position in the network's input.
        normalized: whether `boxes_xyxy` are fractions.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    input_height, input_width = placement.input_hw
    if normalized:
        boxes = boxes * (input_width, input_height, input_width, input_height)
    boxes = placement.to_image(boxes)
    height, width = placement.size_hw
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float64))
