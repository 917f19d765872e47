"""Merge the findings of one damage that several images show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import FloatArray
from blemish.geometry import map_box, pairwise_iou
from blemish.inspections.records import Finding, InspectionImage

MIN_IOU = 0.3
Homographies = Mapping[tuple[str, str], FloatArray]


@dataclass(frozen=True)
class Group:
    """The findings of one damage.

    Attributes:
        id: the id of its first finding.
        basis: `geometry` if images were registered, `part-and-view` if only part and view are the same,
            `alone` for a single finding.
        finding_ids: the findings, each of another image, the oldest first.
    """

    id: str
    basis: str
    finding_ids: tuple[str, ...]


def merge_findings(
    findings: Sequence[Finding], images: Sequence[InspectionImage], homographies: Homographies
) -> tuple[Group, ...]:
    """Return the damages of an inspection.

    Two findings of different images with the same label are one damage if the images are registered and the
    mapped boxes overlap with an IoU of at least .3; or, if the images are not registered, if both are on the
    same known part in the same known view. Findings of one image are never merged, nor are those without a
    box. What is rejected is left out.

    Args:
        findings: of one inspection.
        images: of the inspection.
        homographies: (3, 3) from the first image to the second, by their ids; in one direction each.
    """
    kept = sorted((f for f in findings if f.state != "rejected"), key=lambda f: f.id)
    views = {image.id: image.view for image in images}
    joined = _Groups(kept)
    for strength, one, other, basis in sorted(
        _pairs(kept, views, homographies), key=lambda p: (-p[0], *p[1:])
    ):
        del strength
        joined.join(one, other, basis)
    return joined.groups()


def _pairs(
    findings: Sequence[Finding], views: Mapping[str, str], homographies: Homographies
) -> list[tuple[float, str, str, str]]:
    """Return pairs that may be one damage: strength (an IoU + 1, or a score), two ids, and the basis."""
    pairs = []
    for position, one in enumerate(findings):
        for other in findings[position + 1 :]:
            if one.image_id == other.image_id or one.current_label != other.current_label:
                continue
            overlap = mapped_iou(one, other, homographies)
            if overlap is not None:
                if overlap >= MIN_IOU:
                    pairs.append((1 + overlap, one.id, other.id, "geometry"))
                continue
            part = one.effective()["part"]
            if (
                part
                and part == other.effective()["part"]
                and views[one.image_id] == views[other.image_id] != ""
            ):
                pairs.append((min(one.score or 1, other.score or 1), one.id, other.id, "part-and-view"))
    return pairs


def mapped_iou(one: Finding, other: Finding, homographies: Homographies) -> float | None:
    """Return the IoU of two boxes in the image of one of them; None without boxes or registration."""
    a, b = one.effective()["box_xyxy"], other.effective()["box_xyxy"]
    if a is None or b is None:
        return None
    for first, second, key in (
        (a, b, (one.image_id, other.image_id)),
        (b, a, (other.image_id, one.image_id)),
    ):
        if (matrix := homographies.get(key)) is not None:
            mapped = map_box(matrix, np.asarray(first, np.float64))
            return (
                0.0
                if mapped is None
                else float(pairwise_iou(mapped[None], np.asarray([second], float))[0, 0])
            )
    return None


class _Groups:
    """Groups of findings that grow by pairs; none has two findings of one image."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._group_of = {finding.id: finding.id for finding in findings}
        self._members = {finding.id: [finding.id] for finding in findings}
        self._images = {finding.id: {finding.image_id} for finding in findings}
        self._basis: dict[str, set[str]] = defaultdict(set)

    def join(self, one: str, other: str, basis: str) -> None:
        a, b = sorted((self._group_of[one], self._group_of[other]))
        if a == b or self._images[a] & self._images[b]:
            return
        self._images[a] |= self._images.pop(b)
        for finding_id in self._members.pop(b):
            self._group_of[finding_id] = a
            self._members[a].append(finding_id)
        self._basis[a] |= {basis} | self._basis.pop(b, set())

    def groups(self) -> tuple[Group, ...]:
        return tuple(
            Group(
                group_id,
                "alone" if len(members) == 1 else "+".join(sorted(self._basis[group_id])),
                tuple(sorted(members)),
            )
            for group_id, members in sorted(self._members.items())
        )
