"""What every decoder of boxes does: the least score, the form of the boxes, and the way to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.decoding.decoder import DetectionFilter, finite
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction


@dataclass(frozen=True)
class BoxSettings:
    """What the contract and the caller say of boxes.

    Attributes:
        floor: candidates that score less are left out.
        most: the best of an image that are given.
        form: of the network's boxes; see `corners`.
        normalized: whether they are shares of the input's sides, or network pixels.
    """

    floor: float
    most: int
    form: str
    normalized: bool

    @classmethod
    def of(
        cls, contract: Contract, selection: DetectionFilter, *, form: str = "xyxy", normalized: bool = False
    ) -> Self:
        """The settings `score_floor`, `max_detections`, `box_format` and `normalized` of a contract.

        Args:
            contract: its own floor stands where its decoder has none.
            selection: of the caller; it can raise the floor, not lower it.
            form: where the contract does not say.
            normalized: likewise.
        """
        settings = contract.decoder.settings
        return cls(
            max(float(settings.get("score_floor", contract.score_floor)), selection.min_score or 0.0),
            selection.max_detections or int(settings.get("max_detections", 300)),
            settings.get("box_format", form),
            bool(settings.get("normalized", normalized)),
        )

    def place(
        self, boxes: NDArray[Any], placement: Placement
    ) -> tuple[NDArray[Any], FloatArray, NDArray[np.bool_]]:
        """Boxes in the image.

        Args:
            boxes: (n, 4) as the network gave them.
            placement: of the image.

        Returns:
            (n, 4) corners as the network means them; (n, 4) float64 the part of them inside the image,
            its pixels; and (n,) bool whether anything is left: what lies wholly in the border of a
            letterbox has nothing.

        Raises:
            BadModelFile: boxes that are not finite, or of a form nobody knows.
        """
        taken = corners(finite(boxes, "boxes"), self.form)
        placed = in_image(taken, placement, normalized=self.normalized)
        return taken, placed, (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])


def boxes_prediction(
    contract: Contract,
    placement: Placement,
    boxes_xyxy: FloatArray,
    scores: FloatArray,
    label_index: IntArray,
    masks: Sequence[Mask] | None = None,
) -> Prediction:
    """A prediction of boxes that are already in the image, best first.

    Args:
        contract: labels, task and thresholds.
        placement: of the image.
        boxes_xyxy: (n, 4) pixels of the image, inside it.
        scores: (n,), descending.
        label_index: (n,).
        masks: one a box, or None.
    """
    labels = contract.label_vocabulary()
    label_scores = np.zeros(len(labels), np.float64)
    if len(labels):
        np.maximum.at(label_scores, label_index, scores)
    return Prediction(
        task=contract.task,
        labels=labels,
        size_hw=placement.size_hw,
        label_index=label_index,
        boxes_xyxy=boxes_xyxy,
        masks=None if masks is None else tuple(masks),
        scores=scores,
        label_scores=label_scores,
        thresholds=contract.threshold_array(),
    )


def corners(boxes: NDArray[Any], form: str) -> NDArray[Any]:
    """(n, 4) xyxy from boxes of another form, ordered so that x1 <= x2 and y1 <= y2.

    Args:
        boxes: (n, 4) float.
        form: `xyxy`, `cxcywh` (centre and size) or `xywh` (corner and size).

    Raises:
        BadModelFile: a form nobody knows.
    """
    if form == "xyxy":
        first, second = boxes[:, :2], boxes[:, 2:]
    elif form == "cxcywh":
        first, second = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    elif form == "xywh":
        first, second = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    else:
        raise BadModelFile(f"boxes come as {form!r}; known are xyxy, cxcywh, xywh")
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], 1)


def in_image(boxes_xyxy: NDArray[Any], placement: Placement, *, normalized: bool) -> FloatArray:
    """(n, 4) float64, cut at the image's edge, from network pixels or shares of the input's sides."""
    boxes = np.asarray(boxes_xyxy, np.float64)
    input_height, input_width = placement.input_hw
    if normalized:
        boxes = boxes * (input_width, input_height, input_width, input_height)
    boxes = placement.to_image(boxes)
    height, width = placement.size_hw
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float64))
