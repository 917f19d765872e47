"""`LabelBuilder`: collects images with their objects or labels while a file is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blemish.arrays import FloatArray, Mask
from blemish.data.coordinates import boxes_or_masks, place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.image_index import ImageIndex, is_image_name, sample_id
from blemish.data.object_shapes import DEFAULT_LABEL as DEFAULT_LABEL
from blemish.data.polygon_masks import outlines_box
from blemish.data.raw_annotations import Box, RawAnnotations, Region, as_box
from blemish.data.read_context import ReadContext
from blemish.errors import BadDataset
from blemish.geometry import mask_box
from blemish.geometry.polygons import MAX_COORDINATE
from blemish.imaging import IMAGE_SUFFIXES
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task


class LabelBuilder:
    """The images, objects and labels of a data set that is being read.

    Attributes:
        root: the folder that sample ids are relative to.
        context: receives faults and notes.
        images: the images, found by name.
        several_labels: whether images without objects may have any number of labels.
    """

    def __init__(self, format_name: str, root: Path, context: ReadContext) -> None:
        self.root = root
        self.context = context
        self.images = ImageIndex(context.images or root)
        self.several_labels = False
        self._format = format_name
        self._names: dict[str, int] = {}
        self._annotations: dict[Path, RawAnnotations] = {}
        self._image_labels: dict[Path, list[str]] = {}
        self._missing: list[tuple[str, str]] = []
        self._without_area: dict[str, int] = {}

    def declare(self, names: list[str]) -> None:
        """Add labels in this order, with or without objects."""
        for name in names:
            self._names.setdefault(name, len(self._names))

    def image(
        self,
        written: str,
        *,
        origin: str,
        folder: Path | None = None,
        split: str | None = None,
        stated_hw: tuple[int, int] | None = None,
        relative: bool = False,
    ) -> RawAnnotations | None:
        """Return the entry of an image, or None if it does not exist or is listed twice, which is reported.

        Args:
            written: its path or file name as written.
            origin: its place in the labels.
            folder: the folder of the label file; an image in or near it is preferred.
            split: train, val, test or None.
            stated_hw: height and width in pixels that the labels state.
            relative: whether coordinates are fractions of width and height.
        """
        image = self._find(written, folder, split)
        if image is None:
            if self.context.missing != "keep" or self.context.lenient or stated_hw is None:
                self._missing.append((written, origin))
                return None
            image = self.images.root / written
        if image in self._annotations:
            self.context.problem(
                "repeated-line",
                f"{image.name!r} is listed twice",
                origin=origin,
                path=image,
                remedy="remove one, and move its objects to the other",
                fix="drops the later one",
            )
            return None
        raw = RawAnnotations(
            id=sample_id(image, self.root),
            path=image,
            split=split,
            origin=origin,
            stated_hw=stated_hw,
            relative=relative,
        )
        self._annotations[image] = raw
        return raw

    def _find(self, written: str, folder: Path | None, split: str | None) -> Path | None:
        if folder is not None and folder.is_relative_to(self.images.root):
            below = folder.relative_to(self.images.root).as_posix()
            prefix = "" if below == "." else f"{below}/"
            name = prefix + written.strip().replace("\\", "/")
            suffixes = ("",) if is_image_name(written) else ("", *sorted(IMAGE_SUFFIXES))
            found = next((f for suffix in suffixes if (f := self.images.files.get(name + suffix))), None)
            if found is not None:
                return found
        return self.images.by_name(written, "" if folder is None else folder.name, split)

    def add(
        self,
        raw: RawAnnotations,
        label: str,
        *,
        box_xyxy: Box | None = None,
        region: Region = None,
        origin: str = "",
    ) -> None:
        """Add an object: its box, or its polygons or mask, whose bounding box is then used.

        Args:
            raw: the entry of its image.
            label: its label; an empty one is reported.
            box_xyxy: x1 y1 x2 y2, in pixels or fractions.
            region: polygons, each (k, 2), or a mask.
            origin: its place in the labels.
        """
        label = label.strip()
        if not label:
            self.context.problem(
                "empty-label",
                "object: expected a label",
                origin=origin,
                path=raw.path,
                remedy="add a label",
                fix="drops it",
            )
            return
        self.declare([label])
        if box_xyxy is None:
            box_xyxy = as_box(mask_box(region) if isinstance(region, Mask) else outlines_box(region or ()))
        raw.add(self._names[label], box_xyxy, region=region, origin=origin)

    def label_image(self, raw: RawAnnotations, label: str) -> None:
        """Add a label of the whole image."""
        self.declare([label])
        labels = self._image_labels.setdefault(raw.path, [])
        if label not in labels:
            labels.append(label)

    def leave_out(self, kind: str) -> None:
        """Count a shape that has no area, which is left out."""
        self._without_area[kind] = self._without_area.get(kind, 0) + 1

    def report_shape(self, kind: str, expected: str, raw: RawAnnotations, origin: str) -> None:
        """Report a shape whose numbers are invalid, which is left out."""
        self.context.problem(
            "bad-box",
            f"{kind}: expected {expected}",
            origin=origin,
            path=raw.path,
            remedy="draw it again",
            fix="drops it",
        )

    def dataset(self, path: Path, *, ordered: bool = False) -> Dataset:
        """Return the data set: of objects if there are any, of labels of images otherwise.

        Args:
            path: the path that the user passed, for errors.
            ordered: whether the labels keep the order in which they were added. Default: alphabetical.

        Raises:
            BadDataset: no image exists, or nothing is labeled.
        """
        for kind, count in self._without_area.items():
            self.context.note(f"{count} shapes of type {kind} have no area and were left out")
        self.context.missing_images(self._missing, self.images.root, self.images)
        if not self._annotations:
            raise BadDataset(
                f"none of the listed images is in {self.images.root}",
                where=path,
                remedy="pass the folder of the images with --images",
                reason="no-images",
            )
        names = list(self._names) if ordered else sorted(self._names)
        if not names:
            raise BadDataset(
                "no image has a label", where=path, remedy="label some images first", reason="no-labels"
            )
        labels = labels_with_display_names(names)
        annotations = list(self._annotations.values())
        if self._image_labels and not any(map(len, annotations)):
            return self._image_level(annotations, labels)
        if self._image_labels:
            count = sum(map(len, self._image_labels.values()))
            self.context.note(f"{count} labels of images were left out, because other images have objects")
        position = [labels.index(name) for name in self._names]
        for raw in annotations:
            raw.label_index = [position[i] for i in raw.label_index]
        task = boxes_or_masks(annotations, self.context)
        samples = place_all(annotations, task, labels, self.context)
        return Dataset(task=task, labels=labels, samples=samples, root=self.root, format=self._format)

    def _image_level(self, annotations: list[RawAnnotations], labels: Labels) -> Dataset:
        """Return a classification data set if every image has one label and may have one only."""
        labeled = [raw for raw in annotations if raw.path in self._image_labels]
        several = self.several_labels or any(len(names) > 1 for names in self._image_labels.values())
        if not several and len(labeled) < len(annotations):
            left_out = len(annotations) - len(labeled)
            self.context.note(f"{left_out} images have no label and were left out")
        task = Task.MULTILABEL if several else Task.CLASSIFICATION
        samples = tuple(
            Sample(
                id=raw.id,
                path=raw.path,
                split=raw.split,
                origin=raw.origin,
                ground_truth=GroundTruth(
                    task=task,
                    labels=labels,
                    label_index=np.array(
                        sorted(labels.index(n) for n in self._image_labels.get(raw.path, ())), np.int64
                    ),
                ),
            )
            for raw in (annotations if several else labeled)
        )
        return Dataset(task=task, labels=labels, samples=samples, root=self.root, format=self._format)


def as_points(values: object) -> FloatArray | None:
    """Return (k, 2) x y of a list of points, or None if they are not finite numbers of a plausible size."""
    try:
        points = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) < MAX_COORDINATE).all():
        return None
    return points
