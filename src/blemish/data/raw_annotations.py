"""The annotations of one image as its format stores them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from blemish.arrays import BoolArray, FloatArray, Mask

Box = tuple[float, float, float, float]
Region = tuple[FloatArray, ...] | Mask | None


@dataclass(slots=True)
class RawAnnotations:
    """One image's objects as its format holds them.

    Attributes:
        id: see Sample; likewise path, group, split, origin and columns.
        stated_hw: the size of the picture that the objects were drawn on, if the format says it.
        relative: whether coordinates are shares of width and height (YOLO) and not pixels.
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
        """One more object."""
        self.label_index.append(label_index)
        self.boxes.append(box_xyxy)
        self.regions.append(region)
        self.crowd.append(crowd)
        self.difficult.append(difficult)
        self.truncated.append(truncated)
        self.areas.append(area)
        self.origins.append(origin or self.origin)

    def keeping(self, rows: BoolArray) -> RawAnnotations:
        """The same image with only those objects."""
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
