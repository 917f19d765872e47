"""Write a copy of a data set without the faults that can be fixed automatically."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import BoolArray, Mask
from blemish.data.annotation_faults import MIN_MASK_PIXELS
from blemish.data.audit import audit, lenient_context
from blemish.data.findings import Findings
from blemish.data.image_headers import read_all_header_info
from blemish.data.polygon_masks import PolygonMask, clip_polygon
from blemish.data.write_dataset import WrittenDataset, check_output, format_to_write, write_dataset
from blemish.errors import BadDataset
from blemish.geometry import clip_boxes
from blemish.imaging import LIMITS, SUFFIXES, Limits
from blemish.structures import GroundTruth, Sample, Task


@dataclass(frozen=True)
class CleanResult:
    """A cleaned copy of a data set.

    Attributes:
        found: every finding about the original.
        left: the findings that a person has to fix; they concern the copy too.
        dropped: ids of the images that are not in the copy, by finding code.
        written: the copy.
    """

    found: Findings
    left: Findings
    dropped: Mapping[str, tuple[str, ...]]
    written: WrittenDataset

    def to_dict(self) -> dict[str, Any]:
        """Return the result as values that JSON can represent."""
        return {
            "found": self.found.to_dict(),
            "left": self.left.to_dict(),
            "dropped": {code: list(ids) for code, ids in self.dropped.items()},
            "written": self.written.to_dict(),
        }


def clean(
    path: Path | str,
    output: Path | str,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    to: str | None = None,
    images: Path | str | None = None,
    task: Task | str | None = None,
    columns: Mapping[str, str | int] | None = None,
    box_order: str | None = None,
    uncertain: str = "error",
    crowd: str = "ignore",
    duplicates: bool = True,
    thorough: bool = False,
    link: bool = False,
    limits: Limits = LIMITS,
) -> CleanResult:
    """Write a copy of the data set at `path` with every fault fixed that a finding's `fix` describes.

    Images that cannot be used and lines that cannot be read are left out. Of copies, one is kept (of a leak
    between splits, the one outside train). Boxes are clipped to the image, labels rotated and scaled with
    their images, and wrong file extensions corrected. The original is not changed.

    Args:
        path: see `open_dataset`.
        output: a folder that does not exist, or is empty.
        format: format of the original; default: detected.
        to: format of the copy; default: that of the original.
        images: see `open_dataset`.
        task: see `open_dataset`.
        columns: see `open_dataset`.
        box_order: see `open_dataset`.
        uncertain: see `open_dataset`.
        crowd: see `open_dataset`.
        duplicates: whether to decode every image, to find copies and damage.
        thorough: whether to follow the entropy-coded data of every JPEG, to find damage that decoders hide.
        link: whether to make hard links to images instead of copies.
        limits: the largest size of an image, in bytes and pixels, that is accepted.

    Raises:
        BadDataset: the data set cannot be read, or no image of it can be used.
        BadInput: the output folder is not empty, or is inside the data set.
    """
    context = lenient_context(images, task, columns, box_order=box_order, uncertain=uncertain, crowd=crowd)
    check_output(Path(output), (Path(path), context.images))  # first, because the checks take long
    result = audit(
        path, format=format, context=context, duplicates=duplicates, thorough=thorough, limits=limits
    )
    dataset = result.dataset
    if dataset is None:
        fault = result.findings.of("unreadable-set")[0]
        raise BadDataset(fault.message, where=fault.where, remedy=fault.remedy, reason="unreadable")
    code_of = _codes_of_dropped(result.findings, dataset.samples)
    kept = tuple(_fixed(sample) for sample, code in zip(dataset.samples, code_of, strict=True) if not code)
    if not kept:
        raise BadDataset(
            "no image of it can be used",
            where=path,
            remedy="run blemish data check",
            reason="no-usable-image",
        )
    dropped: dict[str, list[str]] = {}
    for sample, code in zip(dataset.samples, code_of, strict=True):
        if code:
            dropped.setdefault(code, []).append(sample.id)
    written = write_dataset(
        replace(dataset, samples=kept),
        output,
        to or format_to_write(dataset),
        link=link,
        suffixes=_corrected_suffixes(kept),
    )
    dropped_paths = {s.path for s in dataset.samples} - {s.path for s in kept}
    left = tuple(f for f in result.findings if not f.fix and f.path not in dropped_paths)
    ids = {code: tuple(ids) for code, ids in dropped.items()}
    return CleanResult(result.findings, Findings(left, len(kept)), ids, written)


def _codes_of_dropped(findings: Findings, samples: tuple[Sample, ...]) -> list[str]:
    """For each sample, the code of the finding whose fix drops it, or ""."""
    codes: dict[tuple[Path, str], str] = {}  # by image and the one split that it is dropped from, "" for all
    for finding in findings:
        if finding.path is not None and finding.drops_image:
            codes.setdefault((finding.path, finding.split), finding.code)
    return [codes.get((s.path, "")) or codes.get((s.path, s.split or "")) or "" for s in samples]


def _fixed(sample: Sample) -> Sample:
    """Return a sample with boxes and polygons clipped to the image, and without objects of no size."""
    ground_truth, size_hw = sample.ground_truth, sample.size_hw
    if ground_truth is None or ground_truth.boxes_xyxy is None or size_hw is None:
        return sample
    boxes = clip_boxes(ground_truth.boxes_xyxy, size_hw)
    keep: BoolArray = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    masks = None if ground_truth.masks is None else tuple(_clipped(m, size_hw) for m in ground_truth.masks)
    if masks is not None:
        from_box = [isinstance(m, PolygonMask) and m.from_box for m in masks]
        keep &= np.array([b or m.area >= MIN_MASK_PIXELS for m, b in zip(masks, from_box, strict=True)], bool)
    clipped = replace(ground_truth, boxes_xyxy=boxes, masks=masks)
    return replace(sample, ground_truth=select_objects(clipped, keep))


def _clipped(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    if not isinstance(mask, PolygonMask):
        return mask
    clipped = [clip_polygon(p, size_hw) for p in mask.polygons]
    if all(c is p for c, p in zip(clipped, mask.polygons, strict=True)):
        return mask
    return PolygonMask(size_hw, tuple(c for c in clipped if len(c) >= 3), from_box=mask.from_box)


def select_objects(ground_truth: GroundTruth, keep: BoolArray) -> GroundTruth:
    """Return ground truth with the objects for which (n,) `keep` is true."""
    if keep.all():
        return ground_truth
    boxes, masks = ground_truth.boxes_xyxy, ground_truth.masks
    return replace(
        ground_truth,
        label_index=ground_truth.label_index[keep],
        boxes_xyxy=None if boxes is None else boxes[keep],
        masks=None if masks is None else tuple(m for m, k in zip(masks, keep, strict=True) if k),
        crowd=ground_truth.crowd[keep],
        difficult=ground_truth.difficult[keep],
        truncated=ground_truth.truncated[keep] if ground_truth.truncated.size else ground_truth.truncated,
        areas=ground_truth.areas[keep] if ground_truth.areas.size else ground_truth.areas,
    )


def _corrected_suffixes(samples: tuple[Sample, ...]) -> dict[str, str]:
    """Return the right file extension of every image that has a wrong one, by sample id."""
    infos = read_all_header_info([s.path for s in samples])
    corrected = {}
    for sample, info in zip(samples, infos, strict=True):
        suffixes = SUFFIXES.get(info.header.format, ()) if info.header is not None else ()
        if suffixes and sample.path.suffix.casefold() not in suffixes:
            corrected[sample.id] = suffixes[0]
    return corrected
