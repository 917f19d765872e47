"""What every room speaks: tasks, labels, samples, truths and predictions.

Frozen, NumPy only, checked at construction. Boxes are `xyxy`, float64, in pixels of the upright
image; pixel (0, 0) covers the square from (0, 0) to (1, 1). Labels never include background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, FloatArray, IntArray, Mask
from blemish.errors import BadInput, UnknownName
from blemish.task import Task as Task


@dataclass(frozen=True)
class Labels:
    """The names a model can say, in order; index 0 is the first real label.

    Attributes:
        names: what stands in data and JSON, such as `F_Crushed`; distinct and not empty.
        display_names: what people read, such as `Front Crushed`; the names where not given.

    Raises:
        BadInput: a name is empty or given twice, or titles and names differ in number.
    """

    names: tuple[str, ...]
    display_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "display_names", tuple(self.display_names) or self.names)
        if len(self.display_names) != len(self.names):
            raise BadInput(
                f"{len(self.names)} labels and {len(self.display_names)} titles: give one title a label"
            )
        for i, name in enumerate(self.names):
            if not isinstance(name, str) or not name.strip():
                raise BadInput(f"label {i} has no name")
        if len(set(self.names)) != len(self.names):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise BadInput(f"the label {twice!r} is given twice")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def index(self, name: str) -> int:
        """Where `name` stands; UnknownName with the nearest one if it does not."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UnknownName("label", name, self.names) from None

    def title(self, name: str) -> str:
        """What people read for `name`."""
        return self.display_names[self.index(name)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Annotation:
    """What stands in one image; the fields that Truth and Prediction share.

    Attributes:
        task: what was asked.
        labels: all labels that could be said.
        size_hw: height and width of the upright image in pixels; None where nobody has looked yet
            (image-level truths read from a table).
        label_index: (n,) int64. classification: the one label; multilabel: every label that holds,
            ascending; localization: (1,), 0 where the set has no labels; else one a row of `boxes_xyxy`.
        boxes_xyxy: (n, 4) float64 pixels, x1 <= x2 and y1 <= y2; None for image-level tasks.
        masks: n masks for segmentation, else None.

    Raises:
        BadInput: a shape, an index or a box that cannot be; the message names the row.
    """

    task: Task
    labels: Labels
    label_index: IntArray
    size_hw: tuple[int, int] | None = None
    boxes_xyxy: FloatArray | None = None
    masks: tuple[Mask, ...] | None = None

    def __post_init__(self) -> None:
        index = _frozen(self.label_index, np.int64, (None,), "label_index")
        object.__setattr__(self, "label_index", index)
        if index.size and not (0 <= index.min() and index.max() < max(len(self.labels), 1)):
            wrong = index.min() if index.min() < 0 else index.max()
            raise BadInput(f"label index {wrong} is not among {len(self.labels)} labels")
        if self.task.has_one_label and index.shape != (1,):
            raise BadInput(f"classification takes one label an image, not {index.size}")
        if self.task.has_label_set and (np.diff(index) <= 0).any():
            raise BadInput("multilabel indices ascend, each at most once")
        if self.boxes_xyxy is not None:
            boxes = _frozen(self.boxes_xyxy, np.float64, (index.size, 4), "boxes_xyxy")
            if not ((boxes[:, :2] <= boxes[:, 2:]).all() and np.isfinite(boxes).all()):
                fine = np.isfinite(boxes).all(1) & (boxes[:, :2] <= boxes[:, 2:]).all(1)
                row = int(fine.argmin())
                raise BadInput(f"box {row} is inside out or not finite: {boxes[row].tolist()}")
            object.__setattr__(self, "boxes_xyxy", boxes)
        elif self.task.has_boxes:
            raise BadInput(f"{self.task} takes boxes")
        if self.masks is not None:
            object.__setattr__(self, "masks", tuple(self.masks))
            if len(self.masks) != index.size:
                raise BadInput(f"{len(self.masks)} masks for {index.size} objects")

    def __len__(self) -> int:
        return int(self.label_index.size)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The name of each row of `label_index`."""
        return tuple(self.labels.names[i] for i in self.label_index)

    def presence_mask(self) -> BoolArray:
        """(L,) bool: whether each label stands in the image at all."""
        out = np.zeros(len(self.labels), bool)
        out[self.label_index] = True
        return out


@cache
def _nothing(dtype: Any) -> NDArray[Any]:
    """(0,) of a type, shared by every truth of which nobody says more."""
    nothing = np.zeros(0, dtype)
    nothing.setflags(write=False)
    return nothing


@cache
def _no_flags(count: int) -> BoolArray:
    """(count,) bool, all false, shared by every truth of so many objects."""
    flags = np.zeros(count, bool)
    flags.setflags(write=False)
    return flags


@dataclass(frozen=True, eq=False, kw_only=True)
class GroundTruth(Annotation):
    """What people say stands in one image.

    Attributes:
        crowd: (n,) bool, COCO's iscrowd: a region of many objects, neither found nor missed.
        difficult: (n,) bool, Pascal VOC's difficult: ignored by its metric.
        truncated: (n,) bool, Pascal VOC's truncated: the object goes on beyond its box; empty where
            nobody says.
        areas: (n,) float64 square pixels as the data state them, by which COCO's metric calls an object small
            or large; nan for an object without; empty where nobody says.
    """

    crowd: BoolArray = field(default_factory=lambda: _no_flags(0))
    difficult: BoolArray = field(default_factory=lambda: _no_flags(0))
    truncated: BoolArray = field(default_factory=lambda: _no_flags(0))
    areas: FloatArray = field(default_factory=lambda: _nothing(np.float64))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, dtype in (
            ("crowd", np.bool_),
            ("difficult", np.bool_),
            ("truncated", np.bool_),
            ("areas", np.float64),
        ):
            values = getattr(self, name)
            if not len(values):  # nobody says; a hundred thousand truths share their empty arrays
                none = _no_flags(len(self)) if name in ("crowd", "difficult") else _nothing(dtype)
                object.__setattr__(self, name, none)
            else:
                object.__setattr__(self, name, _frozen(values, dtype, (len(self),), name))


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Annotation):
    """What a model says stands in one image.

    `label_index`, `boxes_xyxy` and `masks` are the verdict: what is left at the model's own thresholds
    (image-level), or every box down to the score floor, best first (detection, segmentation).

    Attributes:
        scores: (n,) float64 in [0, 1], one a row of `label_index`.
        label_scores: (L,) float64 probability of each label in the whole image; for boxes the best
            box's score a label.
        thresholds: (L,) float64, the scores from which the model itself says yes.
        path: the image, if it came from a file.
        model_digest: the model file that said so, or "".
    """

    scores: FloatArray
    label_scores: FloatArray
    thresholds: FloatArray
    path: Path | None = None
    model_digest: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        n, count = len(self), len(self.labels)
        for name, shape in (("scores", (n,)), ("label_scores", (count,)), ("thresholds", (count,))):
            array = _frozen(getattr(self, name), np.float64, shape, name)
            if name != "thresholds" and array.size and not (0 <= array.min() and array.max() <= 1):
                raise BadInput(f"{name} leave [0, 1]: {array.min()} to {array.max()}")
            object.__setattr__(self, name, array)

    def to_dict(self) -> dict[str, Any]:
        """The prediction as JSON takes it: one word a thing, the same as in the REST answers."""
        out: dict[str, Any] = {
            "path": None if self.path is None else self.path.as_posix(),
            "task": str(self.task),
            "size_hw": None if self.size_hw is None else list(self.size_hw),
            "labels": [
                {
                    "label": name,
                    "display_name": title,
                    "score": float(score),
                    "threshold": float(threshold),
                    "positive": bool(holds),
                }
                for name, title, score, threshold, holds in zip(
                    self.labels.names,
                    self.labels.display_names,
                    self.label_scores,
                    self.thresholds,
                    self.decide(),
                    strict=True,
                )
            ],
            "model_digest": self.model_digest,
        }
        if self.boxes_xyxy is not None:
            out["detections"] = [
                {
                    "label": self.labels.names[index] if self.labels.names else None,
                    "display_name": self.labels.display_names[index] if self.labels.names else None,
                    "score": float(score),
                    "positive": bool(score >= self.thresholds[index]) if self.labels.names else True,
                    "box_xyxy": [float(v) for v in box],
                    **({} if self.masks is None else {"area": self.masks[row].area}),
                }
                for row, (index, score, box) in enumerate(
                    zip(self.label_index, self.scores, self.boxes_xyxy, strict=True)
                )
            ]
        return out

    def decide(self) -> BoolArray:
        """(L,) bool: what the model says at its own thresholds."""
        if self.task.has_one_label:
            return self.presence_mask()
        return self.label_scores >= self.thresholds

    def filter_scores(self, min_score: float | None = None) -> Prediction:
        """This prediction with its surer objects only; itself where the task has none.

        Args:
            min_score: the least score of an object; None takes the threshold of its label.
        """
        if self.boxes_xyxy is None or not len(self) or not len(self.labels):
            return self
        least = self.thresholds[self.label_index] if min_score is None else min_score
        rows = np.flatnonzero(self.scores >= least)
        return replace(
            self,
            label_index=self.label_index[rows],
            scores=self.scores[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            masks=None if self.masks is None else tuple(self.masks[row] for row in rows),
        )

    def plot(self, image: Any = None, *, min_score: float | None = None) -> Any:
        """The image with this prediction drawn on it.

        Args:
            image: a PIL image or an (h, w, 3) uint8 array; `path` is opened where it is not given.
            min_score: objects below it are not drawn; None takes the threshold of each label.

        Returns:
            A PIL image in RGB.
        """
        from blemish.drawing import draw

        return draw(self.filter_scores(min_score), image)

    def _repr_png_(self) -> bytes | None:
        """The picture a notebook shows; None where the image is not at hand."""
        if self.path is None or not self.path.exists():
            return None
        import io

        buffer = io.BytesIO()
        self.plot().save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """One image of a data set.

    Attributes:
        id: unique within the data set; the path below its root, with forward slashes.
        path: the image.
        size_hw: of the upright image, where known.
        group: the object photographed (vehicle, claim, module serial), where known.
        split: `train`, `val` or `test`, where the data set says so.
        ground_truth: what people say, where known.
        origin: where the label was read: `labels.csv:14`.
        columns: what else the table it was read from says of it, by column name.
    """

    id: str
    path: Path
    size_hw: tuple[int, int] | None = None
    group: str | None = None
    split: str | None = None
    ground_truth: GroundTruth | None = None
    origin: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Images with what people say of them, in one order that never changes.

    Attributes:
        task: what is asked.
        labels: shared by every truth.
        samples: in the order of the files read.
        root: what was opened.
        format: the name of the format that was recognised.
        notes: what was dropped or mended while reading, one sentence each, for people to see.
    """

    task: Task
    labels: Labels
    samples: tuple[Sample, ...]
    root: Path
    format: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", tuple(self.samples))
        object.__setattr__(self, "notes", tuple(self.notes))

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, position: int) -> Sample:
        return self.samples[position]

    @property
    def splits(self) -> dict[str, int]:
        """How many images each split holds; empty where the set has none."""
        counts: dict[str, int] = {}
        for sample in self.samples:
            if sample.split is not None:
                counts[sample.split] = counts.get(sample.split, 0) + 1
        return counts

    def of_split(self, name: str) -> Self:
        """The images of one split; UnknownName where the set has none of that name."""
        kept = tuple(s for s in self.samples if s.split == name)
        if not kept:
            raise UnknownName("split", name, sorted(self.splits), where=str(self.root))
        return replace(self, samples=kept)

    def subset(self, positions: Sequence[int]) -> Self:
        """The images at `positions`, in that order."""
        return replace(self, samples=tuple(self.samples[i] for i in positions))

    def with_splits(self, split_of: Mapping[str, str]) -> Self:
        """The same images, each in the split that `split_of` names for its id."""
        return replace(self, samples=tuple(replace(s, split=split_of.get(s.id)) for s in self.samples))


def _frozen(values: Any, dtype: Any, shape: tuple[int | None, ...], name: str) -> NDArray[Any]:
    """`values` as a read-only array of `dtype`; BadInput where the shape differs."""
    # What nobody can write to any more need not be copied: a hundred thousand truths share their empty flags.
    shared = isinstance(values, np.ndarray) and values.dtype == dtype and values.base is None
    array: NDArray[Any] = values if shared and not values.flags.writeable else np.array(values, dtype=dtype)
    if array.size == 0 and shape[0] == 0:  # an empty list stands for no boxes
        array = array.reshape([s or 0 for s in shape])
    fits = array.ndim == len(shape) and all(s in (None, a) for s, a in zip(shape, array.shape, strict=True))
    if not fits:
        raise BadInput(f"{name} has shape {array.shape}, not {shape}")
    array.setflags(write=False)
    return array
