"""A copy of a data set without the faults that need no person to decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import BoolArray, Mask
from blemish.data.audit import audit, lenient_reading
from blemish.data.checks.annotations import FEWEST_PIXELS
from blemish.data.checks.images import SUFFIXES_OF
from blemish.data.findings import DROPS_IMAGE, Findings
from blemish.data.image_headers import read_all_header_info
from blemish.data.polygon_masks import PolygonMask, clipped_outline
from blemish.data.write_dataset import Written, check_output, format_to_write, write_dataset
from blemish.errors import BadDataset
from blemish.geometry import clip_boxes
from blemish.imaging import LIMITS, Limits
from blemish.structures import GroundTruth, Sample, Task

DROPPED_IMAGES = frozenset(
    {
        "broken-image",
        "damaged-image",
        "empty-file",
        "exact-duplicate",
        "oversized-image",
        "split-leak",
        "tiny-image",
        "truncated-image",
    }
)


Place = tuple[Path, str]  # an image and the one split that it is dropped from, "" for all


@dataclass(frozen=True)
class CleanResult:
    """A cleaned copy.

    Attributes:
        found: everything that was wrong with the original.
        left: those findings that only people can mend; they concern the copy too.
        dropped: ids of images that are not in the copy, by finding code.
        written: the copy.
    """

    found: Findings
    left: Findings
    dropped: Mapping[str, tuple[str, ...]]
    written: Written

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
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
    format: str | None = None,  # noqa: A002 - the word people type
    to: str | None = None,
    images: Path | str | None = None,
    task: Task | str | None = None,
    columns: Mapping[str, str | int] | None = None,
    box_order: str | None = None,
    duplicates: bool = True,
    thorough: bool = False,
    link: bool = False,
    limits: Limits = LIMITS,
) -> CleanResult:
    """Write a copy of the set at `path` with everything mended that a finding's `fix` promises.

    Images that cannot be used and lines that cannot be read are left out, copies dropped (of a leak
    between splits the one in train), boxes cut at the edge, labels turned and scaled with their images,
    wrong file endings put right. The original is not touched.

    Args:
        path: as for `open_dataset`; likewise format, images and task.
        output: a folder that is not there yet, or empty.
        format: of the original, where it should not be recognised.
        to: format of the copy; that of the original where not given.
        images: where its images lie, if not beside the labels.
        task: what it shall serve.
        columns: for tables, as for `open_dataset`.
        box_order: likewise.
        duplicates: whether to decode every image, to find copies and damage.
        thorough: whether to follow the codes of every JPEG, to find damage that decoders hide.
        link: hard links to images instead of copies.
        limits: what counts as oversized.

    Raises:
        BadDataset: nothing of the set can be read, or nothing of it is left.
        BadInput: the output is not empty, or lies inside the set.
    """
    reading = lenient_reading(images, task, columns, box_order=box_order)
    check_output(Path(output), (Path(path), reading.images))  # a check takes long
    result = audit(
        path, format=format, reading=reading, duplicates=duplicates, thorough=thorough, limits=limits
    )
    dataset = result.dataset
    if dataset is None:
        raise BadDataset(result.findings.of("unreadable-set")[0].sentence())
    drop: dict[Place, str] = {}
    for finding in result.findings:
        if finding.path is None or not finding.fix:
            continue
        if finding.code in DROPPED_IMAGES or finding.fix == DROPS_IMAGE:
            drop.setdefault((finding.path, finding.split), finding.code)
    gone = [drop.get((s.path, "")) or drop.get((s.path, s.split or "")) for s in dataset.samples]
    kept = tuple(_mended(s) for s, code in zip(dataset.samples, gone, strict=True) if code is None)
    if not kept:
        raise BadDataset(f"{path}: not one image of it can be used; see blemish data check")
    dropped: dict[str, list[str]] = {}
    for sample, code in zip(dataset.samples, gone, strict=True):
        if code is not None:
            dropped.setdefault(code, []).append(sample.id)
    written = write_dataset(
        replace(dataset, samples=kept),
        output,
        to or format_to_write(dataset),
        link=link,
        suffixes=_right_suffixes(kept),
    )
    lost = {s.path for s in dataset.samples} - {s.path for s in kept}
    left = Findings(tuple(f for f in result.findings if not f.fix and f.path not in lost), len(kept))
    return CleanResult(result.findings, left, {c: tuple(ids) for c, ids in dropped.items()}, written)


def _mended(sample: Sample) -> Sample:
    """A sample whose boxes end at the edge, without objects that hold nothing."""
    ground_truth, size_hw = sample.ground_truth, sample.size_hw
    if ground_truth is None or ground_truth.boxes_xyxy is None or size_hw is None:
        return sample
    boxes = clip_boxes(ground_truth.boxes_xyxy, size_hw)
    keep: BoolArray = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    masks = None if ground_truth.masks is None else tuple(_inside(m, size_hw) for m in ground_truth.masks)
    if masks is not None:
        drawn = [not (isinstance(m, PolygonMask) and m.stands_in) for m in masks]
        keep &= np.array([not d or m.area >= FEWEST_PIXELS for m, d in zip(masks, drawn, strict=True)], bool)
    return replace(sample, ground_truth=rows_of(replace(ground_truth, boxes_xyxy=boxes, masks=masks), keep))


def _inside(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """A mask whose outlines end at the edge of the image."""
    if not isinstance(mask, PolygonMask):
        return mask
    cut = [clipped_outline(p, size_hw) for p in mask.polygons]
    if all(c is p for c, p in zip(cut, mask.polygons, strict=True)):
        return mask
    return PolygonMask(size_hw, tuple(c for c in cut if len(c) >= 3), stands_in=mask.stands_in)


def rows_of(ground_truth: GroundTruth, keep: BoolArray) -> GroundTruth:
    """A truth with only those of its objects for which (n,) `keep` holds."""
    if keep.all():
        return ground_truth
    return replace(
        ground_truth,
        label_index=ground_truth.label_index[keep],
        boxes_xyxy=None if ground_truth.boxes_xyxy is None else ground_truth.boxes_xyxy[keep],
        masks=None
        if ground_truth.masks is None
        else tuple(m for m, k in zip(ground_truth.masks, keep, strict=True) if k),
        crowd=ground_truth.crowd[keep],
        difficult=ground_truth.difficult[keep],
        truncated=ground_truth.truncated[keep] if ground_truth.truncated.size else ground_truth.truncated,
        areas=ground_truth.areas[keep] if ground_truth.areas.size else ground_truth.areas,
    )


def _right_suffixes(samples: tuple[Sample, ...]) -> dict[str, str]:
    """The right file ending of every image that has a wrong one."""
    looks = read_all_header_info([s.path for s in samples])
    out = {}
    for sample, look in zip(samples, looks, strict=True):
        right = SUFFIXES_OF.get(look.header.format, ()) if look.header is not None else ()
        if right and sample.path.suffix.casefold() not in right:
            out[sample.id] = right[0]
    return out
