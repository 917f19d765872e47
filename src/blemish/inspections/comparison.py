"""Compare two inspections of an asset: new, pre-existing, worsened, repaired, not visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from blemish.geometry import map_box
from blemish.inspections.finding_groups import MIN_IOU, Group, Homographies, mapped_iou
from blemish.inspections.records import Finding, InspectionImage
from blemish.inspections.severity import SeverityRules

WORSE_AREA = 1.5  # a mapped area that is this many times as large counts as worsened


@dataclass(frozen=True)
class Change:
    """What became of one damage.

    Attributes:
        change: `new`, `pre-existing`, `worsened`, `repaired` or `unknown`.
        basis: `geometry`, `part-and-view`, `view`, or why it is unknown: `not visible`, `no comparison
            image`.
        label: of the damage.
        group_id: of the damage in this inspection; None if it has none.
        previous_group_id: of the damage in the previous inspection; None if it had none.
    """

    change: str
    basis: str
    label: str
    group_id: str | None
    previous_group_id: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Side:
    """One of the two inspections.

    Attributes:
        groups: its damages.
        findings: by id.
        images: that were inspected by a model or a person.
    """

    groups: Sequence[Group]
    findings: Mapping[str, Finding]
    images: Sequence[InspectionImage]

    def members(self, group: Group) -> list[Finding]:
        """Return the findings of a damage."""
        return [self.findings[finding_id] for finding_id in group.finding_ids]


def compare_sides(
    before: Side, after: Side, homographies: Homographies, rules: SeverityRules | None
) -> tuple[Change, ...]:
    """Return what became of every damage, those of `after` first.

    Damages match one to one, the best first: the same label and mapped boxes with an IoU of at least .3 where
    images of the two inspections are registered, else the same known part and view. A damage without a match
    is new, or repaired, only if the other inspection shows its place: in a registered image, or in an image
    of the same named view. Otherwise it is unknown.

    Args:
        before: the previous inspection.
        after: this inspection.
        homographies: (3, 3) between images of both inspections, by their ids.
        rules: of this inspection, for "worsened"; None compares areas only.
    """
    matches = _match(before, after, homographies)
    changes = []
    old_of = {new.id: (old, basis) for new, old, basis in matches}
    for group in after.groups:
        label = after.members(group)[0].current_label
        if group.id in old_of:
            old, basis = old_of[group.id]
            worse = _is_worse(before.members(old), after.members(group), homographies, rules)
            change = "worsened" if worse else "pre-existing"
            changes.append(Change(change, basis, label, group.id, old.id))
        elif basis := _visible(after.members(group), after.images, before.images, homographies):
            changes.append(Change("new", basis, label, group.id, None))
        else:
            changes.append(Change("unknown", "no comparison image", label, group.id, None))
    matched = {old.id for _, old, _ in matches}
    for group in before.groups:
        if group.id in matched:
            continue
        label = before.members(group)[0].current_label
        basis = _visible(before.members(group), before.images, after.images, homographies)
        change = "repaired" if basis else "unknown"
        changes.append(Change(change, basis or "not visible", label, None, group.id))
    return tuple(changes)


def _match(before: Side, after: Side, homographies: Homographies) -> list[tuple[Group, Group, str]]:
    """Return matching damages (new, old, basis), one to one."""
    old_views = {image.id: image.view for image in before.images}
    new_views = {image.id: image.view for image in after.images}
    candidates = []
    for new in after.groups:
        for old in before.groups:
            best = _strength(before.members(old), after.members(new), old_views, new_views, homographies)
            if best is not None:
                candidates.append((-best[0], new.id, old.id, new, old, best[1]))
    taken: set[str] = set()
    matches = []
    for _, new_id, old_id, new, old, basis in sorted(candidates, key=lambda c: c[:3]):
        if new_id not in taken and old_id not in taken:
            taken |= {new_id, old_id}
            matches.append((new, old, basis))
    return matches


def _strength(
    old: Sequence[Finding],
    new: Sequence[Finding],
    old_views: Mapping[str, str],
    new_views: Mapping[str, str],
    homographies: Homographies,
) -> tuple[float, str] | None:
    """Return how well two damages match, and why; None if they do not."""
    best: tuple[float, str] | None = None
    is_registered = False
    for one in new:
        for other in old:
            if one.current_label != other.current_label:
                continue
            overlap = mapped_iou(one, other, homographies)
            if overlap is not None:
                is_registered = True
                if overlap >= MIN_IOU and (best is None or overlap + 1 > best[0]):
                    best = (overlap + 1, "geometry")
            elif not is_registered and best is None:
                part, view = one.effective()["part"], new_views.get(one.image_id, "")
                same = part == other.effective()["part"] and view == old_views.get(other.image_id, "")
                if part and view and same:
                    best = (min(one.score or 1, other.score or 1), "part-and-view")
    if best is not None and best[1] == "part-and-view" and is_registered:
        return None  # geometry decides where there is one
    return best


def _is_worse(
    old: Sequence[Finding], new: Sequence[Finding], homographies: Homographies, rules: SeverityRules | None
) -> bool:
    """Return whether a damage has a higher level, or a mapped area at least 1.5 times as large."""
    if rules is not None:
        ranks = [
            max((rules.levels.index(level) for level in levels if level in rules.levels), default=-1)
            for levels in ([f.effective()["severity_level"] for f in side] for side in (old, new))
        ]
        if min(ranks) >= 0 and ranks[1] > ranks[0]:
            return True
    for one in new:
        for other in old:
            matrix = homographies.get((other.image_id, one.image_id))
            a, b = other.effective()["box_xyxy"], one.effective()["box_xyxy"]
            if matrix is None or a is None or b is None:
                continue
            mapped = map_box(matrix, np.asarray(a, np.float64))
            if mapped is not None and _area(b) >= WORSE_AREA * _area(mapped):
                return True
    return False


def _area(box: Any) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _visible(
    findings: Sequence[Finding],
    own_images: Sequence[InspectionImage],
    other_images: Sequence[InspectionImage],
    homographies: Homographies,
) -> str:
    """Return why the other inspection shows the place of a damage: `geometry`, `view`, or ""."""
    sizes = {image.id: (image.height, image.width) for image in other_images}
    for finding in findings:
        box = finding.effective()["box_xyxy"]
        for image_id, (height, width) in sizes.items():
            matrix = homographies.get((finding.image_id, image_id))
            if matrix is None or box is None:
                continue
            mapped = map_box(matrix, np.asarray(box, np.float64))
            if mapped is not None:
                x, y = (mapped[0] + mapped[2]) / 2, (mapped[1] + mapped[3]) / 2
                if 0 <= x <= width and 0 <= y <= height:
                    return "geometry"
    views = {image.id: image.view for image in own_images}
    shown = {views.get(finding.image_id, "") for finding in findings} - {""}
    return "view" if shown & {image.view for image in other_images} else ""
