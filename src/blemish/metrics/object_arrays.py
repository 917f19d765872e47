"""The objects of many images as flat arrays, which is how the metrics of detection take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, FloatArray, IntArray, Mask
from blemish.structures import Annotation, GroundTruth, Prediction


@dataclass(frozen=True, eq=False, kw_only=True)
class ObjectArrays:
    """Objects in the order of their images.

    Attributes:
        images: how many images there are, with objects or without.
        label_count: how many labels there are.
        image: (n,) int64, which image each object stands in, ascending.
        label: (n,) int64.
        boxes: (n, 4) float64 xyxy pixels.
        area: (n,) float64 square pixels, by which objects count as small, medium or large.
        score: (n,) float64 in [0, 1]; ones for truths.
        crowd: (n,) bool, COCO's iscrowd; False for predictions.
        difficult: (n,) bool, Pascal VOC's; False for predictions.
        masks: n masks, or None.
    """

    images: int
    label_count: int
    image: IntArray
    label: IntArray
    boxes: FloatArray
    area: FloatArray
    score: FloatArray
    crowd: BoolArray
    difficult: BoolArray
    masks: tuple[Mask, ...] | None = None

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of_ground_truths(
        cls, ground_truths: Sequence[GroundTruth], label_count: int, *, masks: bool = False
    ) -> ObjectArrays:
        """The objects of truths; `masks` says whether masks are compared, or boxes."""
        objects = _flat(ground_truths, label_count, masks=masks)
        stated = _joined(
            [t.areas if t.areas.size else np.full(len(t), np.nan) for t in ground_truths], np.float64
        )
        return replace(
            objects,
            area=np.where(np.isfinite(stated), stated, objects.area),
            crowd=_joined([t.crowd for t in ground_truths], np.bool_),
            difficult=_joined([t.difficult for t in ground_truths], np.bool_),
        )

    @classmethod
    def of_predictions(
        cls, predictions: Sequence[Prediction], label_count: int, *, masks: bool = False
    ) -> ObjectArrays:
        """The objects of predictions; `masks` says whether masks are compared, or boxes."""
        objects = _flat(predictions, label_count, masks=masks)
        return replace(objects, score=_joined([p.scores for p in predictions], np.float64))

    def take(self, rows: NDArray[Any]) -> Self:
        """The objects at `rows`, an (m,) index or an (n,) bool, in that order."""
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        names = ("image", "label", "boxes", "area", "score", "crowd", "difficult")
        masks = None if self.masks is None else tuple(self.masks[i] for i in rows.tolist())
        return replace(self, masks=masks, **{name: getattr(self, name)[rows] for name in names})


def _flat(annotations: Sequence[Annotation], label_count: int, *, masks: bool) -> ObjectArrays:
    counts = np.array([len(a) for a in annotations], np.int64)
    boxes = _joined([a.boxes_xyxy for a in annotations], np.float64, (0, 4))
    held = tuple(m for a in annotations for m in a.masks or ())
    sized_by_masks = (masks or isinstance(next(iter(annotations), None), GroundTruth)) and len(
        held
    ) == counts.sum()
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if sized_by_masks:  # COCO sizes a truth by its outline, also where boxes are compared
        area = np.array([m.area for m in held], np.float64)
    n = int(counts.sum())
    return ObjectArrays(
        images=len(annotations),
        label_count=label_count,
        image=np.repeat(np.arange(len(annotations)), counts),
        label=_joined([a.label_index for a in annotations], np.int64),
        boxes=boxes,
        area=area,
        score=np.ones(n),
        crowd=np.zeros(n, bool),
        difficult=np.zeros(n, bool),
        masks=held if masks else None,
    )


def _joined(parts: Sequence[Any], dtype: Any, empty: tuple[int, ...] = (0,)) -> NDArray[Any]:
    held = [p for p in parts if p is not None and len(p)]
    return np.concatenate(held).astype(dtype) if held else np.zeros(empty, dtype)
