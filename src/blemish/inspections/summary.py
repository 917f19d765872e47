"""The decision about many images: damages, worst severity, coverage, and what was not visible."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from blemish.inspections.finding_records import rules_of
from blemish.inspections.records import Finding, Inspection, InspectionImage, PredictionRun

BLURRED = 1.65  # focus below which an image is listed as blurred; see docs/inspections.md
DARK, BRIGHT = 25.0, 235.0  # mean gray levels outside of which an image is listed as too dark or too bright


def summarize(
    inspection: Inspection,
    images: Sequence[InspectionImage],
    findings: Sequence[Finding],
    runs: Sequence[PredictionRun],
) -> dict[str, Any]:
    """Return the decision of an inspection, as plain values.

    Returns:
        `decision`: `not-inspected`, `incomplete`, `needs-review`, `findings` or `no-findings`; `damages`: one
        mapping for each group of findings; `counts`: damages by label; `by_severity`; `worst_severity` with
        its `severity_scale`; `coverage`: required, present and missing views; `not_inspected`: ids of images
        without a prediction; `image_problems`: by image id; `changes`: damages by change; `reviews_agree`:
        accepted as found, edited and rejected findings of models.
    """
    rules = rules_of(inspection)
    damages = list_damages(findings, images)
    if rules is not None:
        for damage in damages:
            damage["severity_level"] = rules.worst(damage.pop("levels"))
    else:
        for damage in damages:
            levels = damage.pop("levels")
            damage["severity_level"] = levels[0] if len(set(levels)) == 1 else ""
    views = {image.view for image in images}
    missing = [view for view in inspection.required_views if view not in views]
    done = {entry["image_id"] for run in runs for entry in run.images if not entry.get("error")}
    done |= {finding.image_id for finding in findings if finding.origin == "person"}
    not_inspected = [image.id for image in images if image.id not in done]
    open_count = sum(finding.state in ("open", "contested") for finding in findings)
    if not images or len(not_inspected) == len(images):
        decision = "not-inspected"
    elif missing or not_inspected:
        decision = "incomplete"
    elif open_count:
        decision = "needs-review"
    else:
        decision = "findings" if damages else "no-findings"
    return {
        "decision": decision,
        "damages": damages,
        "counts": dict(Counter(damage["label"] for damage in damages)),
        "by_severity": dict(Counter(damage["severity_level"] or "no rule" for damage in damages)),
        "severity_scale": "" if rules is None else rules.scale,
        "worst_severity": ""
        if rules is None
        else rules.worst(damage["severity_level"] for damage in damages),
        "open_findings": open_count,
        "coverage": {
            "required": list(inspection.required_views),
            "present": [view for view in inspection.required_views if view in views],
            "missing": missing,
        },
        "not_inspected": not_inspected,
        "image_problems": {image.id: found for image in images if (found := image_problems(image))},
        "changes": dict(Counter(damage["change"] for damage in damages)),
        "reviews_agree": agreement(findings),
    }


def list_damages(findings: Sequence[Finding], images: Sequence[InspectionImage]) -> list[dict[str, Any]]:
    """Return one mapping for each damage that is not rejected, in the order of their first findings."""
    members: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.state != "rejected":
            members[finding.group_id or finding.id].append(finding)
    views = {image.id: image.view for image in images}
    return [
        {
            "group_id": group_id,
            "label": group[0].current_label,
            "part": next((part for f in group if (part := f.effective()["part"])), ""),
            "levels": [f.effective()["severity_level"] for f in group],
            "finding_ids": [f.id for f in group],
            "views": sorted({views.get(f.image_id, "") for f in group} - {""}),
            "basis": group[0].group_basis or "not merged",
            "change": group[0].change,
            "state": "open" if any(f.state in ("open", "contested") for f in group) else "accepted",
            "score": max((f.score for f in group if f.score is not None), default=None),
        }
        for group_id, group in sorted(members.items())
    ]


def image_problems(image: InspectionImage) -> list[str]:
    """Return why an image may not show damage: `blurred`, `dark`, `bright`; empty if nothing is known."""
    quality = image.quality
    problems = ["blurred"] if quality.get("focus", BLURRED) < BLURRED else []
    level = quality.get("mean_level", (DARK + BRIGHT) / 2)
    return problems + (["dark"] if level < DARK else ["bright"] if level > BRIGHT else [])


def agreement(findings: Sequence[Finding]) -> dict[str, int]:
    """Return how many findings of models were accepted as found, edited, rejected and not decided."""
    counts = {"accepted": 0, "edited": 0, "rejected": 0, "open": 0, "added": 0}
    for finding in findings:
        if finding.origin == "person":
            counts["added"] += finding.state == "accepted"
        elif finding.state == "accepted":
            counts["edited" if finding.current else "accepted"] += 1
        else:
            counts["rejected" if finding.state == "rejected" else "open"] += 1
    return counts
