"""Images too large for the network: looked at tile by tile, what crosses a border put together again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, FloatArray, IntArray, Mask
from blemish.decoding import NO_FILTER, DetectionFilter
from blemish.decoding.box_predictions import boxes_prediction
from blemish.errors import BadInput, WrongTask
from blemish.geometry import box_area, clip_boxes, crop_window, pairwise_iou, paste_window
from blemish.geometry.masks import union_of_intervals
from blemish.imaging import LoadedImage
from blemish.inference.inputs import Source, as_image
from blemish.inference.predictor import PredictionResult, Predictor, PreparedInput, Timing
from blemish.inference.prefetch import prefetched
from blemish.preprocessing import Placement
from blemish.structures import Prediction

NEAR_BORDER = 3  # pixels from a tile's border: what ends there may go on beyond
SAME_IOU = 0.5  # two finds are one thing from here, in the part of the image that both tiles show


@dataclass(frozen=True)
class Tiling:
    """How an image is cut.

    Attributes:
        side: of a tile, pixels of the image.
        overlap: of neighbouring tiles, a share of `side`; an object should fit into the overlap, or at
            least a good part of it.
        whole: whether the network also looks at the whole image at once, for what is larger than a
            tile.

    Raises:
        BadInput: a side below 16 pixels, or an overlap outside [0, .9].
    """

    side: int
    overlap: float = 0.25
    whole: bool = True

    def __post_init__(self) -> None:
        if self.side < 16:
            raise BadInput(f"tiles of {self.side} pixels are too small; give 16 or more")
        if not 0 <= self.overlap <= 0.9:
            raise BadInput(f"the tiles' overlap is {self.overlap:g}; give a share from 0 to .9")

    def regions(self, size_hw: tuple[int, int]) -> IntArray:
        """(n, 4) int64 xyxy: the tiles of an image, row by row; they cover it and are evenly spread.

        Example:
            >>> Tiling(side=60, overlap=0.25).regions((50, 100)).tolist()
            [[0, 0, 60, 50], [40, 0, 100, 50]]
        """
        height, width = size_hw
        rows, columns = self._starts(height), self._starts(width)
        return np.array(
            [
                [x, y, min(x + self.side, width), min(y + self.side, height)]
                for y, x in itertools.product(rows, columns)
            ],
            np.int64,
        )

    def _starts(self, length: int) -> list[int]:
        if length <= self.side:
            return [0]
        step = max(self.side * (1 - self.overlap), 1)
        count = int(np.ceil((length - self.side) / step)) + 1
        return [round(i * (length - self.side) / (count - 1)) for i in range(count)]


def predict_tiled(
    predictor: Predictor,
    photo: LoadedImage,
    tiling: Tiling,
    selection: DetectionFilter = NO_FILTER,
    *,
    batch_size: int = 1,
    advance: Callable[[int, int], None] | None = None,
) -> Prediction:
    """What a model of boxes says of a large image.

    Tiles overlap. What two of them show of one label, and what agrees where both can see, is one thing: its
    box and mask are joined, and the better score counts. So a scratch across three tiles comes out whole.

    Args:
        predictor: of a detection or segmentation model.
        photo: of any size.
        tiling: how to cut it.
        selection: which boxes are wanted; `max_detections` counts for the whole image.
        batch_size: tiles that go through the network together.
        advance: told tiles done and tiles in all, after each batch.

    Raises:
        WrongTask: the model gives no boxes that could be put together.
    """
    contract = predictor.contract
    if not contract.task.has_objects:
        raise WrongTask(f"tiles are for detection and segmentation; this model's task is {contract.task}")
    height, width = photo.size_hw
    everything = np.array([[0, 0, width, height]], np.int64)
    regions = tiling.regions(photo.size_hw)
    if tiling.whole and len(regions) > 1:
        regions = np.concatenate([regions, everything])

    def prepare(region: IntArray) -> PreparedInput:
        left, top, right, bottom = region
        return predictor.prepare(LoadedImage(photo.pixels[top:bottom, left:right]))

    in_tile = replace(selection, max_detections=None)
    ready = prefetched(prepare, regions, threads=predictor.readers, ahead=batch_size + predictor.readers - 1)
    finds = _Finds()
    done = 0
    try:
        while batch := list(itertools.islice(ready, batch_size)):
            for answer in predictor.predict_prepared(batch, in_tile):
                finds.add(answer, regions[done], done, photo.size_hw)
                done += 1
            if advance is not None:
                advance(done, len(regions))
    finally:
        ready.close()
    boxes, scores, labels, masks = finds.joined(regions, photo.size_hw)
    most = selection.max_detections
    placement = Placement(photo.size_hw, photo.size_hw, (1.0, 1.0), (0.0, 0.0))
    is_masked = contract.task.has_masks
    prediction = boxes_prediction(
        contract, placement, boxes[:most], scores[:most], labels[:most], masks[:most] if is_masked else None
    )
    return replace(prediction, path=photo.path, model_digest=predictor.digest)


def predict_many_tiled(
    predictor: Predictor,
    sources: Iterable[Source],
    tiling: Tiling,
    selection: DetectionFilter = NO_FILTER,
    *,
    batch_size: int = 1,
    keep_images: bool = False,
    advance: Callable[[int, int], None] | None = None,
) -> Iterator[PredictionResult]:
    """As `Predictor.predict_many`, tile by tile; the time that tiles take counts as the network's."""
    for source in sources:
        started = time.perf_counter()
        try:
            photo = as_image(source, predictor.limits)
            read = time.perf_counter()
            found = predict_tiled(predictor, photo, tiling, selection, batch_size=batch_size, advance=advance)
        except BadInput as error:
            if isinstance(error, WrongTask):
                raise
            yield PredictionResult(source, None, error, Timing(read=time.perf_counter() - started))
            continue
        timing = Timing(read=read - started, infer=time.perf_counter() - read)
        yield PredictionResult(source, found, None, timing, photo if keep_images else None)


class _Finds:
    """What all tiles gave, in pixels of the image."""

    def __init__(self) -> None:
        self.boxes: list[FloatArray] = [np.zeros((0, 4))]
        self.scores: list[FloatArray] = [np.zeros(0)]
        self.labels: list[IntArray] = [np.zeros(0, np.int64)]
        self.tiles: list[IntArray] = [np.zeros(0, np.int64)]
        self.cut: list[BoolArray] = [np.zeros(0, bool)]
        self.masks: list[Mask | None] = []

    def add(self, answer: Prediction, region: IntArray, tile: int, size_hw: tuple[int, int]) -> None:
        """Take what one tile gave."""
        assert answer.boxes_xyxy is not None  # noqa: S101  (the task has boxes)
        boxes = answer.boxes_xyxy + np.tile(region[:2], 2)
        self.boxes.append(boxes)
        # At a border of the tile that is none of the image's.
        edges = np.array([0, 0, size_hw[1], size_hw[0]])
        self.cut.append(((np.abs(boxes - region) <= NEAR_BORDER) & (region != edges)).any(1))
        self.scores.append(answer.scores)
        self.labels.append(answer.label_index)
        self.tiles.append(np.full(len(answer), tile, np.int64))
        for mask in answer.masks or [None] * len(answer):
            if mask is None:
                self.masks.append(None)
                continue
            window, (x, y) = crop_window(mask)
            self.masks.append(paste_window(window, (x + int(region[0]), y + int(region[1])), size_hw))

    def joined(
        self, regions: IntArray, size_hw: tuple[int, int]
    ) -> tuple[FloatArray, FloatArray, IntArray, list[Mask]]:
        """Boxes, scores, labels and masks of the things themselves, best first."""
        boxes, scores = np.concatenate(self.boxes), np.concatenate(self.scores)
        labels, tiles = np.concatenate(self.labels), np.concatenate(self.tiles)
        cut = np.concatenate(self.cut)
        thing = _things(boxes, labels, tiles, cut, regions)
        # What a tile shows whole is drawn best there; pieces, and a look from afar, only without that.
        fine = ~cut & (regions[tiles] != (0, 0, size_hw[1], size_hw[0])).any(1)
        members = []
        for number in np.unique(thing):
            rows = np.flatnonzero(thing == number)
            entire = rows[fine[rows]]
            members.append(entire[[scores[entire].argmax()]] if entire.size else rows)
        members.sort(key=lambda rows: -float(scores[rows].max()))
        whole = [np.concatenate([boxes[rows, :2].min(0), boxes[rows, 2:].max(0)]) for rows in members]
        masks = []
        for rows in members:
            parts = [mask for mask in (self.masks[row] for row in rows) if mask is not None]
            masks += [_union(parts, size_hw)] if parts else []
        return (
            np.array(whole, np.float64).reshape(-1, 4),
            np.array([scores[rows].max() for rows in members], np.float64),
            np.array([labels[rows[0]] for rows in members], np.int64),
            masks,
        )


def _things(
    boxes: FloatArray, labels: IntArray, tiles: IntArray, cut: BoolArray, regions: IntArray
) -> IntArray:
    """(n,) a number for each find; finds of one thing share it."""
    thing = np.arange(len(boxes))
    for first, second in _overlapping(regions, np.unique(tiles)):
        shared = np.concatenate(
            [
                np.maximum(regions[first, :2], regions[second, :2]),
                np.minimum(regions[first, 2:], regions[second, 2:]),
            ]
        ).astype(np.float64)
        sides = []
        for tile in (first, second):
            rows = np.flatnonzero(tiles == tile)
            seen = clip_boxes(boxes[rows] - np.tile(shared[:2], 2), _size(shared))
            visible = (seen[:, 2] > seen[:, 0]) & (seen[:, 3] > seen[:, 1])
            sides.append((rows[visible], seen[visible]))
        (rows_a, seen_a), (rows_b, seen_b) = sides
        agree = pairwise_iou(seen_a, seen_b)
        # Of a thing that a border cut, one tile may have seen a small piece only: it lies in the other's.
        areas = box_area(seen_a)[:, None], box_area(seen_b)[None, :]
        inside = agree * (areas[0] + areas[1]) / (1 + agree)
        agree = np.where(cut[rows_a][:, None] | cut[rows_b][None, :], inside / np.minimum(*areas), agree)
        agree *= labels[rows_a][:, None] == labels[rows_b][None, :]
        for a, b in _best_pairs(agree):
            old, new = thing[rows_b[b]], thing[rows_a[a]]
            thing[thing == old] = new
    return thing


def _best_pairs(agree: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Row and column of pairs that agree enough, the best first, none used twice."""
    agree = agree.copy()
    while agree.size and agree.max() >= SAME_IOU:
        row, column = np.unravel_index(int(agree.argmax()), agree.shape)
        yield int(row), int(column)
        agree[row], agree[:, column] = -1, -1


def _overlapping(regions: IntArray, used: IntArray) -> Iterator[tuple[int, int]]:
    """Pairs of tiles that show a common part of the image."""
    for i, first in enumerate(used):
        others = used[i + 1 :]
        low = np.maximum(regions[first, :2], regions[others, :2])
        high = np.minimum(regions[first, 2:], regions[others, 2:])
        for second in others[(low < high).all(1)]:
            yield int(first), int(second)


def _size(region: FloatArray) -> tuple[int, int]:
    return int(region[3] - region[1]), int(region[2] - region[0])


def _union(masks: Sequence[Mask], size_hw: tuple[int, int]) -> Mask:
    if len(masks) == 1:
        return masks[0]
    intervals = [_intervals(mask) for mask in masks]
    starts, stops = (np.concatenate(x) for x in zip(*intervals, strict=True))
    return union_of_intervals(starts, stops, size_hw)


def _intervals(mask: Mask) -> tuple[IntArray, IntArray]:
    ends = np.cumsum(mask.counts)
    stops = ends[1::2]
    return ends[::2][: len(stops)], stops
