"""The annotations of one image: as its format stores them, and in pixels of the upright image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from blemish.arrays import BoolArray, FloatArray, Mask

Box = tuple[float, float, float, float]
Region = tuple[FloatArray, ...] | Mask | None


def as_box(box_xyxy: FloatArray) -> Box:
    """Return the four numbers of a (4,) array: x1 y1 x2 y2."""
    x1, y1, x2, y2 = box_xyxy.tolist()
    return x1, y1, x2, y2


@dataclass(slots=True)
class RawAnnotations:
    """The annotations of one image as its format stores them.

    Attributes:
        id: see Sample.
        path: see Sample.
        group: see Sample.
        split: see Sample.
        origin: see Sample.
        columns: see Sample.
        stated_hw: height and width in pixels of the image that the boxes were drawn on, if the format states
            it.
        relative: whether coordinates are fractions of width and height (YOLO) instead of pixels.
        label_index: position of each object's label.
        boxes: x1 y1 x2 y2 of each object.
        regions: polygons (each (k, 2), x y) or the mask of each object, None if it has a box only.
        crowd: whether each object is a crowd, as in COCO.
        difficult: whether each object is marked as difficult, as in VOC.
        truncated: whether each object is marked as cut off, as in VOC.
        areas: the area that the format states for each object, in pixels; NaN if it states none.
        origins: the place of each object in the labels: "labels.csv:14".
    """

    id: str
    path: Path
    group: str | None = None
    split: str | None = None
    origin: str = ""
    stated_hw: tuple[int, int] | None = None
    relative: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    label_index: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.label_index)

    def add(
        self,
        label_index: int,
        box_xyxy: Box,
        *,
        region: Region = None,
        crowd: bool = False,
        difficult: bool = False,
        truncated: bool = False,
        area: float = float("nan"),
        origin: str = "",
    ) -> None:
        """Add one object.

        Args:
            label_index: position of its label.
            box_xyxy: x1 y1 x2 y2 in pixels, or in fractions of width and height if `relative`.
            region: its polygons or mask, in the same coordinates.
            crowd: whether it is a crowd, as in COCO.
            difficult: whether it is marked as difficult, as in VOC.
            truncated: whether it is marked as cut off, as in VOC.
            area: the area that the format states, in pixels.
            origin: its place in the labels; default: that of the image.
        """
        self.label_index.append(label_index)
        self.boxes.append(box_xyxy)
        self.regions.append(region)
        self.crowd.append(crowd)
        self.difficult.append(difficult)
        self.truncated.append(truncated)
        self.areas.append(area)
        self.origins.append(origin or self.origin)

    def select(self, rows: BoolArray) -> RawAnnotations:
        """Return the same image with the objects for which (n,) `rows` is true."""
        kept = np.flatnonzero(rows).tolist()
        return replace(
            self,
            label_index=[self.label_index[i] for i in kept],
            boxes=[self.boxes[i] for i in kept],
            regions=[self.regions[i] for i in kept],
            crowd=[self.crowd[i] for i in kept],
            difficult=[self.difficult[i] for i in kept],
            truncated=[self.truncated[i] for i in kept],
            areas=[self.areas[i] for i in kept],
            origins=[self.origins[i] for i in kept],
        )


@dataclass(frozen=True, slots=True, eq=False)
class PlacedAnnotations:
    """All annotations of one image in pixels of the upright image, faulty ones included.

    Attributes:
        path: the image.
        origins: the place of each object in the labels.
        boxes_xyxy: (n, 4) float64, x1 y1 x2 y2 in pixels.
        regions: polygons or mask of each object, None if it has a box only.
        size_hw: height and width of the upright image, or None if it is unknown.
        has_area: (n,) bool, whether each box has a width and a height.
        repeats: position of an object -> position of an earlier, equal one.
    """

    path: Path
    origins: list[str]
    boxes_xyxy: FloatArray
    regions: list[Region]
    size_hw: tuple[int, int] | None
    has_area: BoolArray
    repeats: dict[int, int]

    @property
    def kept(self) -> BoolArray:
        """(n,) bool, the objects that are read: those with an area, without repetitions."""
        kept = self.has_area.copy()
        kept[list(self.repeats)] = False
        return kept
