"""Merge the detections of overlapping tiles into the detections of the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, FloatArray, IntArray, Mask
from blemish.decoding.box_predictions import boxes_prediction
from blemish.geometry import box_area, clip_boxes, crop_window, pairwise_iou, paste_window
from blemish.geometry.masks import union_of_intervals
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction

BORDER_PIXELS = 3  # an object that ends this close to a tile's border may continue beyond it
MERGE_IOU = 0.5  # detections of two tiles are one object from this agreement, where both tiles show the image


class TileDetections:
    """The detections of all tiles of an image, in pixels of the image.

    Args:
        regions_xyxy: (n, 4) int64, the tiles.
        size_hw: size of the image in pixels.
    """

    def __init__(self, regions_xyxy: IntArray, size_hw: tuple[int, int]) -> None:
        self.regions = regions_xyxy
        self.size_hw = size_hw
        self._boxes: list[FloatArray] = [np.zeros((0, 4))]
        self._scores: list[FloatArray] = [np.zeros(0)]
        self._labels: list[IntArray] = [np.zeros(0, np.int64)]
        self._tiles: list[IntArray] = [np.zeros(0, np.int64)]
        self._is_cut: list[BoolArray] = [np.zeros(0, bool)]
        self._masks: list[Mask | None] = []

    def add(self, prediction: Prediction, tile: int) -> None:
        """Add the detections of one tile.

        Args:
            prediction: of the tile, in the tile's pixels.
            tile: its row in `regions`.
        """
        assert prediction.boxes_xyxy is not None  # noqa: S101  (the task has boxes)
        region = self.regions[tile]
        boxes = prediction.boxes_xyxy + np.tile(region[:2], 2)
        self._boxes.append(boxes)
        # A box is cut if it ends at a border of the tile that is not a border of the image.
        image_edges = np.array([0, 0, self.size_hw[1], self.size_hw[0]])
        is_at_border = (np.abs(boxes - region) <= BORDER_PIXELS) & (region != image_edges)
        self._is_cut.append(is_at_border.any(1))
        self._scores.append(prediction.scores)
        self._labels.append(prediction.label_index)
        self._tiles.append(np.full(len(prediction), tile, np.int64))
        for mask in prediction.masks or [None] * len(prediction):
            if mask is None:
                self._masks.append(None)
                continue
            window, (x, y) = crop_window(mask)
            corner = (x + int(region[0]), y + int(region[1]))
            self._masks.append(paste_window(window, corner, self.size_hw))

    def merged(self, contract: Contract, max_detections: int | None = None) -> Prediction:
        """Return the prediction of the image: one detection per object, by descending score.

        An object that one tile shows entirely gets the box and mask of the highest-scoring such tile. Only an
        object that no tile shows entirely gets the union of its pieces, with the highest of their scores.

        Args:
            contract: gives task, labels and thresholds.
            max_detections: only the highest-scoring objects are kept. Default: all.
        """
        boxes, scores = np.concatenate(self._boxes), np.concatenate(self._scores)
        labels, tiles = np.concatenate(self._labels), np.concatenate(self._tiles)
        is_cut = np.concatenate(self._is_cut)
        object_ids = _group(boxes, labels, tiles, is_cut, self.regions)
        # A tile shows more detail than the whole image, which may be among the regions.
        is_tile = (self.regions[tiles] != (0, 0, self.size_hw[1], self.size_hw[0])).any(1)
        is_entire = ~is_cut & is_tile
        groups = []
        for object_id in np.unique(object_ids):
            rows = np.flatnonzero(object_ids == object_id)
            entire = rows[is_entire[rows]]
            groups.append(entire[[scores[entire].argmax()]] if entire.size else rows)
        groups.sort(key=lambda rows: -float(scores[rows].max()))
        groups = groups[:max_detections]
        unions = [np.concatenate([boxes[rows, :2].min(0), boxes[rows, 2:].max(0)]) for rows in groups]
        return boxes_prediction(
            contract,
            Placement(self.size_hw, self.size_hw, (1.0, 1.0), (0.0, 0.0)),
            np.array(unions, np.float64).reshape(-1, 4),
            np.array([scores[rows].max() for rows in groups], np.float64),
            np.array([labels[rows[0]] for rows in groups], np.int64),
            [self._mask_of(rows) for rows in groups] if contract.task.has_masks else None,
        )

    def _mask_of(self, rows: IntArray) -> Mask:
        """Return the union of the masks of some detections."""
        masks: list[Mask] = [mask for mask in (self._masks[row] for row in rows) if mask is not None]
        if len(masks) == 1:
            return masks[0]
        starts, stops = (np.concatenate(x) for x in zip(*map(_intervals, masks), strict=True))
        return union_of_intervals(starts, stops, self.size_hw)


def _group(
    boxes: FloatArray, labels: IntArray, tiles: IntArray, is_cut: BoolArray, regions: IntArray
) -> IntArray:
    """Return (n,) an object number per detection; detections of one object share it."""
    object_ids = np.arange(len(boxes))
    for first, second in _overlapping_tiles(regions, np.unique(tiles)):
        shared = np.concatenate(
            [
                np.maximum(regions[first, :2], regions[second, :2]),
                np.minimum(regions[first, 2:], regions[second, 2:]),
            ]
        ).astype(np.float64)
        sides = []
        for tile in (first, second):
            rows = np.flatnonzero(tiles == tile)
            inside = clip_boxes(boxes[rows] - np.tile(shared[:2], 2), _size_hw(shared))
            is_visible = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
            sides.append((rows[is_visible], inside[is_visible]))
        (rows_a, boxes_a), (rows_b, boxes_b) = sides
        agreement = pairwise_iou(boxes_a, boxes_b)
        # One tile may show only a small piece of an object that its border cuts. That piece is inside the
        # box of the other tile, so the intersection is compared with the smaller box.
        areas = box_area(boxes_a)[:, None], box_area(boxes_b)[None, :]
        intersection = agreement * (areas[0] + areas[1]) / (1 + agreement)
        is_piece = is_cut[rows_a][:, None] | is_cut[rows_b][None, :]
        agreement = np.where(is_piece, intersection / np.minimum(*areas), agreement)
        agreement *= labels[rows_a][:, None] == labels[rows_b][None, :]
        for a, b in _best_pairs(agreement):
            old, new = object_ids[rows_b[b]], object_ids[rows_a[a]]
            object_ids[object_ids == old] = new
    return object_ids


def _best_pairs(agreement: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield row and column of pairs that agree enough, the best first, each row and column once."""
    agreement = agreement.copy()
    while agreement.size and agreement.max() >= MERGE_IOU:
        row, column = np.unravel_index(int(agreement.argmax()), agreement.shape)
        yield int(row), int(column)
        agreement[row], agreement[:, column] = -1, -1


def _overlapping_tiles(regions: IntArray, used: IntArray) -> Iterator[tuple[int, int]]:
    """Yield pairs of tiles that show a common part of the image."""
    for i, first in enumerate(used):
        others = used[i + 1 :]
        low = np.maximum(regions[first, :2], regions[others, :2])
        high = np.minimum(regions[first, 2:], regions[others, 2:])
        for second in others[(low < high).all(1)]:
            yield int(first), int(second)


def _size_hw(region: FloatArray) -> tuple[int, int]:
    return int(region[3] - region[1]), int(region[2] - region[0])


def _intervals(mask: Mask) -> tuple[IntArray, IntArray]:
    """Return the first and past-the-last pixel of each run of a mask, in column order."""
    ends = np.cumsum(mask.counts)
    stops = ends[1::2]
    return ends[::2][: len(stops)], stops
