"""The values that all packages share: labels, samples, ground truths and predictions.

They are immutable and checked when they are created. Boxes are `xyxy`, float64, in pixels of the upright
image; pixel (0, 0) covers the square from (0, 0) to (1, 1). Labels never include background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from blemish.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    LazyMasks,
    Mask,
    empty_array,
    no_flags,
    read_only_array,
    summarize_heatmap,
)
from blemish.errors import BadInput, UnknownName
from blemish.image_checks import Capture as Capture
from blemish.image_checks import Familiarity as Familiarity
from blemish.task import Task as Task

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Labels:
    """The labels of a model or a data set, in order; index 0 is the first real label.

    Attributes:
        names: names in data and JSON, such as `F_Crushed`; unique and not empty.
        display_names: names to display, such as `Front Crushed`. Default: `names`.

    Raises:
        BadInput: a name is empty or appears twice, or the numbers of names and display names differ.
    """

    names: tuple[str, ...]
    display_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "display_names", tuple(self.display_names) or self.names)
        if len(self.display_names) != len(self.names):
            raise BadInput(
                f"labels: expected one display name per label, got {len(self.display_names)} for "
                f"{len(self.names)} labels",
                reason="display-names",
            )
        for i, name in enumerate(self.names):
            if not isinstance(name, str) or not name.strip():
                raise BadInput(f"label {i}: expected a name, got {name!r}", reason="empty-label")
        if len(set(self.names)) != len(self.names):
            counts = Counter(self.names)
            twice = next(n for n in self.names if counts[n] > 1)
            raise BadInput(f"label {twice!r} appears twice", reason="duplicate-label")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def index(self, name: str) -> int:
        """Return the index of a label; raise `UnknownName` with the nearest name if there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UnknownName("label", name, self.names) from None

    def display_name(self, name: str) -> str:
        """Return the display name of a label."""
        return self.display_names[self.index(name)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Annotation:
    """What one image contains; the fields that `GroundTruth` and `Prediction` share.

    Attributes:
        task: the task.
        labels: all labels of the model or the data set.
        size_hw: height and width of the upright image in pixels; None if the image has not been opened yet.
        label_index: (n,) int64. classification: the one label; multilabel: every positive label, ascending;
            localization: (1,), 0 if the set has no labels; else one per row of `boxes_xyxy`.
        boxes_xyxy: (n, 4) float64 pixels, x1 <= x2 and y1 <= y2; None for image-level tasks.
        masks: n masks for segmentation, else None. `LazyMasks` stay as they are; others become a tuple.

    Raises:
        BadInput: an impossible shape, index or box; the message names the row.
    """

    task: Task
    labels: Labels
    label_index: IntArray
    size_hw: tuple[int, int] | None = None
    boxes_xyxy: FloatArray | None = None
    masks: tuple[Mask, ...] | LazyMasks | None = None

    def __post_init__(self) -> None:
        index = read_only_array(self.label_index, np.int64, (None,), "label_index")
        object.__setattr__(self, "label_index", index)
        if index.size and not (0 <= index.min() and index.max() < max(len(self.labels), 1)):
            wrong = index.min() if index.min() < 0 else index.max()
            raise BadInput(
                f"label_index: expected indices below {len(self.labels)}, got {wrong}", reason="label-index"
            )
        if self.task.has_one_label and index.shape != (1,):
            raise BadInput(
                f"label_index: {self.task} needs exactly one label, got {index.size}", reason="label-count"
            )
        if self.task.has_label_set and (np.diff(index) <= 0).any():
            raise BadInput(
                f"label_index: expected ascending indices without repetition, got {index.tolist()}",
                reason="label-index",
            )
        if self.boxes_xyxy is not None:
            boxes = read_only_array(self.boxes_xyxy, np.float64, (index.size, 4), "boxes_xyxy")
            is_valid = np.isfinite(boxes).all(1) & (boxes[:, :2] <= boxes[:, 2:]).all(1)
            if not is_valid.all():
                row = int(is_valid.argmin())
                raise BadInput(
                    f"box {row}: expected finite x1 <= x2 and y1 <= y2, got {boxes[row].tolist()}",
                    reason="box",
                )
            object.__setattr__(self, "boxes_xyxy", boxes)
        elif self.task.has_boxes:
            raise BadInput(f"boxes_xyxy: {self.task} needs boxes, got None", reason="no-boxes")
        if self.masks is not None:
            if not isinstance(self.masks, LazyMasks):
                object.__setattr__(self, "masks", tuple(self.masks))
            if len(self.masks) != index.size:
                raise BadInput(
                    f"masks: expected one per object, got {len(self.masks)} for {index.size} objects",
                    reason="mask-count",
                )

    def __len__(self) -> int:
        return int(self.label_index.size)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The name of each row of `label_index`."""
        return tuple(self.labels.names[i] for i in self.label_index)

    def presence_mask(self) -> BoolArray:
        """Return (L,) bool: whether the image contains each label."""
        out = np.zeros(len(self.labels), bool)
        out[self.label_index] = True
        return out


@dataclass(frozen=True, eq=False, kw_only=True)
class GroundTruth(Annotation):
    """The labels, boxes and masks that a data set gives for one image.

    Attributes:
        crowd: (n,) bool, COCO's iscrowd: a region of many objects, which metrics ignore.
        difficult: (n,) bool, Pascal VOC's difficult: ignored by its metric.
        truncated: (n,) bool, Pascal VOC's truncated: the object extends beyond its box; empty if the data set
            has no such flag.
        areas: (n,) float64 square pixels as the data set states them, by which COCO's metric distinguishes
            small and large objects; nan for an object without; empty if the data set states none.
    """

    crowd: BoolArray = field(default_factory=lambda: no_flags(0))
    difficult: BoolArray = field(default_factory=lambda: no_flags(0))
    truncated: BoolArray = field(default_factory=lambda: no_flags(0))
    areas: FloatArray = field(default_factory=lambda: empty_array(np.float64))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, dtype in (
            ("crowd", np.bool_),
            ("difficult", np.bool_),
            ("truncated", np.bool_),
            ("areas", np.float64),
        ):
            values = getattr(self, name)
            if not len(values):  # a hundred thousand ground truths share their empty arrays
                none = no_flags(len(self)) if name in ("crowd", "difficult") else empty_array(dtype)
                object.__setattr__(self, name, none)
            else:
                object.__setattr__(self, name, read_only_array(values, dtype, (len(self),), name))


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Annotation):
    """The labels, boxes and masks that a model predicts for one image.

    For image-level tasks, `label_index` contains the labels at or above the model's own thresholds. For
    detection and segmentation, `label_index`, `boxes_xyxy` and `masks` contain every detection down to the
    model's minimum score, by descending score.

    Attributes:
        scores: (n,) float64 in [0, 1], one per row of `label_index`.
        label_scores: (L,) float64 in [0, 1], the probability of each label in the whole image; with boxes,
            the highest score of the label's boxes.
        thresholds: (L,) float64, the score from which the model considers a label positive.
        path: the image, if it came from a file.
        model_digest: SHA-256 of the model file, or "".
        unreliable: the labels that did not reach the precision that was required when their thresholds were
            chosen; a person has to review decisions for them.
        familiarity: how familiar the image is to the model; None if the model file has no features.
        capture: whether the image should be taken again; None if that is not known.
        heatmap: (h, w) float32 in [0, 1] that covers the whole image evenly, coarser than the image: how
            anomalous each place is. None if the model computes no heatmap.
    """

    scores: FloatArray
    label_scores: FloatArray
    thresholds: FloatArray
    path: Path | None = None
    model_digest: str = ""
    unreliable: tuple[str, ...] = ()
    familiarity: Familiarity | None = None
    capture: Capture | None = None
    heatmap: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        n, count = len(self), len(self.labels)
        for name, shape in (("scores", (n,)), ("label_scores", (count,)), ("thresholds", (count,))):
            array = read_only_array(getattr(self, name), np.float64, shape, name)
            if name != "thresholds" and array.size and not (0 <= array.min() and array.max() <= 1):
                raise BadInput(
                    f"{name}: expected values in [0, 1], got {array.min()} to {array.max()}",
                    reason="score-range",
                )
            object.__setattr__(self, name, array)
        if self.heatmap is not None:
            heatmap = read_only_array(self.heatmap, np.float32, (None, None), "heatmap")
            object.__setattr__(self, "heatmap", heatmap)

    def to_dict(self, *, all_masks: bool = True) -> dict[str, Any]:
        """Return the prediction as plain values for JSON.

        Args:
            all_masks: whether detections below the threshold of their label have the `area` of their mask
                too.

        Documents that contain it (`blemish predict --json`, the REST API) add their `schema_version`.
        """
        out: dict[str, Any] = {
            "path": None if self.path is None else self.path.as_posix(),
            "task": str(self.task),
            "size_hw": None if self.size_hw is None else list(self.size_hw),
            "labels": [
                {
                    "label": name,
                    "display_name": display_name,
                    "score": float(score),
                    "threshold": float(threshold),
                    "positive": bool(is_positive),
                    "reliable": name not in self.unreliable,
                }
                for name, display_name, score, threshold, is_positive in zip(
                    self.labels.names,
                    self.labels.display_names,
                    self.label_scores,
                    self.thresholds,
                    self.decide(),
                    strict=True,
                )
            ],
            "model_digest": self.model_digest,
            "familiarity": None if self.familiarity is None else self.familiarity.to_dict(),
            "capture": None if self.capture is None else self.capture.to_dict(),
        }
        if self.heatmap is not None:
            out["heatmap"] = summarize_heatmap(self.heatmap, self.size_hw)
        if self.boxes_xyxy is not None:
            rows = zip(
                self.label_index.tolist(),
                self.scores.tolist(),
                self.detections_positive().tolist(),
                self.boxes_xyxy.tolist(),
                strict=True,
            )
            out["detections"] = [
                {
                    "label": self.labels.names[index] if self.labels.names else None,
                    "display_name": self.labels.display_names[index] if self.labels.names else None,
                    "score": score,
                    "positive": positive,
                    "reliable": not self.labels.names or self.labels.names[index] not in self.unreliable,
                    "box_xyxy": box,
                }
                for index, score, positive, box in rows
            ]
            if all_masks and self.masks is not None:
                for detection, mask in zip(out["detections"], self.masks, strict=True):
                    detection["area"] = mask.area
        return out

    def to_coco(
        self, image_id: int | str, category_ids: Mapping[str, int] | None = None
    ) -> list[dict[str, Any]]:
        """Return the detections in COCO's results format, which `pycocotools.COCO.loadRes` reads.

        Args:
            image_id: the image's id in the annotation file.
            category_ids: category id by label name. Default: 1, 2, ... in the order of `labels`.

        Returns:
            One dict per detection: `image_id`, `category_id`, `bbox` (x, y, width, height in pixels), `score`
            and, with masks, `segmentation` (compressed run lengths).

        Raises:
            WrongTask: the task has no boxes.
            UnknownName: `category_ids` lacks a label that was detected.
        """
        from blemish.prediction_formats import to_coco

        return to_coco(self, image_id, category_ids)

    def to_supervision(self) -> Any:
        """Return a `supervision.Detections`, or a `supervision.Classifications` for image-level tasks.

        `Detections` has `xyxy` (n, 4) float64 pixels, `mask` (n, h, w) bool or None, `confidence` (n,),
        `class_id` (n,) int64 and `data["class_name"]` (n,). `Classifications` has every label.

        Raises:
            ImportError: the package `supervision` is not installed.
        """
        from blemish.prediction_formats import to_supervision

        return to_supervision(self)

    def detections_positive(self) -> BoolArray:
        """Return (n,) bool: whether each detection reaches the threshold of its label."""
        if not len(self.labels):
            return np.ones(len(self), bool)
        return self.scores >= self.thresholds[self.label_index]

    def decide(self) -> BoolArray:
        """Return (L,) bool: whether each label is positive at the model's own threshold."""
        if self.task.has_one_label:
            return self.presence_mask()
        return self.label_scores >= self.thresholds

    def filter_scores(self, min_score: float | None = None) -> Prediction:
        """Return this prediction with its higher-scoring detections only; itself if the task has none.

        Args:
            min_score: minimum score of a detection. Default: the threshold of its label.
        """
        if self.boxes_xyxy is None or not len(self) or not len(self.labels):
            return self
        minimum = self.thresholds[self.label_index] if min_score is None else min_score
        rows = np.flatnonzero(self.scores >= minimum)
        return replace(
            self,
            label_index=self.label_index[rows],
            scores=self.scores[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            masks=None if self.masks is None else tuple(self.masks[row] for row in rows),
        )

    def plot(self, image: Any = None, *, min_score: float | None = None) -> Any:
        """Return the image with this prediction drawn on it, as a PIL image in RGB.

        Args:
            image: a PIL image or an (h, w, 3) uint8 array. Default: the file at `path`.
            min_score: lower-scoring detections are not drawn. Default: the threshold of each label.
        """
        from blemish.drawing import draw

        return draw(self.filter_scores(min_score), image)

    def _repr_png_(self) -> bytes | None:
        """Return a PNG of the drawn prediction for notebooks; None if the image file does not exist."""
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
        id: unique in the data set; the path below its root, with forward slashes.
        path: the image file.
        size_hw: size of the upright image in pixels, if known.
        group: the object in the image (vehicle, claim, module serial), if known.
        split: `train`, `val` or `test`, if the data set defines it.
        ground_truth: the annotation, if there is one.
        origin: where the annotation was read: `labels.csv:14`.
        columns: further columns of the table from which it was read, by name.
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
    """Images with their ground truths, in an order that never changes.

    Attributes:
        task: the task of the ground truths.
        labels: shared by every ground truth.
        samples: in the order of the files read.
        root: the folder or file that was opened.
        format: name of the format that was recognized.
        notes: what was dropped or repaired while reading, one sentence each.
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
        """The number of images of each split; empty if the data set defines no splits."""
        counts: dict[str, int] = {}
        for sample in self.samples:
            if sample.split is not None:
                counts[sample.split] = counts.get(sample.split, 0) + 1
        return counts

    def of_split(self, name: str) -> Self:
        """Return the images of one split; raise `UnknownName` if the data set has no such split."""
        kept = tuple(s for s in self.samples if s.split == name)
        if not kept:
            raise UnknownName("split", name, sorted(self.splits), where=str(self.root))
        return replace(self, samples=kept)

    def subset(self, positions: Sequence[int]) -> Self:
        """Return the images at `positions`, in that order."""
        return replace(self, samples=tuple(self.samples[i] for i in positions))

    def with_splits(self, split_of: Mapping[str, str]) -> Self:
        """Return the same images, each in the split that `split_of` gives for its id."""
        return replace(self, samples=tuple(replace(s, split=split_of.get(s.id)) for s in self.samples))
