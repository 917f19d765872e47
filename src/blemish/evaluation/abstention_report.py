"""What a model decides alone on labeled images at a risk or cost: coverage, risk-coverage curve, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.abstention import (
    ANY_OBJECT,
    Decision,
    Policy,
    Risk,
    coverage_interval,
    decide,
    observed_band,
)
from blemish.abstention.conformal import proportion_interval
from blemish.evaluation.report import ReportWarning
from blemish.model_file import AbstentionScores, LabelScores
from blemish.structures import GroundTruth, Prediction

CURVE_RISKS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Outcomes:
    """Decisions and ground truth of images by label; (n, L) bool each."""

    decided: Array
    present: Array  # decided to be present
    absent: Array  # excluded, also in images that are left for review
    actual: Array


def report_abstention(
    predictions: Sequence[Prediction],
    ground_truths: Sequence[GroundTruth],
    groups: Sequence[str | None],
    scores: AbstentionScores,
    policy: Policy,
) -> dict[str, Any]:
    """Return the section `abstention` of a report.

    Args:
        predictions: one per image.
        ground_truths: one per image, in the labels of the model.
        groups: the group of each image, or None.
        scores: of the model file.
        policy: at which risk, or at which costs.

    Returns:
        `decided`: the share of images that need no review; `decided_parts`: that of label decisions; `error`
        and `macro_f1` of what was decided; `sides`: the coverage of each label and side with its intervals;
        `curve`: the same measures at other risks; `calibration`: what the decisions are based on.
    """
    first = predictions[0]
    single = first.task.has_one_label
    actual = _presence(ground_truths, first)
    names = [f"image:{i}" if g is None else f"group:{g}" for i, g in enumerate(groups)]
    _, units = np.unique(np.array(names), return_inverse=True)
    decisions = [decide(prediction, scores, policy) for prediction in predictions]
    outcomes = _outcomes(decisions, actual, single=single)
    sides = []
    if isinstance(policy, Risk):
        if scores.any_object is not None:
            known = {ANY_OBJECT: scores.any_object}
        else:
            known = {name: scores.labels.get(name, LabelScores()) for name in first.labels.names}
        for i, (name, of_label) in enumerate(known.items()):
            lost = outcomes.absent[:, i]
            sides.append(_side(name, "present", of_label.present, actual[:, i], lost, units, policy))
            if not single:
                lost = outcomes.present[:, i]
                sides.append(_side(name, "absent", of_label.absent, ~actual[:, i], lost, units, policy))
    curve = []
    for risk in CURVE_RISKS:
        at = [decide(prediction, scores, Risk(risk)) for prediction in predictions]
        curve.append({"risk": risk, **_measure(at, _outcomes(at, actual, single=single))})
    return {
        **policy.to_dict(),
        "images": len(predictions),
        **_measure(decisions, outcomes),
        "reasons": _reasons(decisions),
        "sides": sides,
        "curve": curve,
        "calibration": {
            "split": scores.split,
            "images": scores.images,
            "groups": scores.groups,
            "grouped": scores.grouped,
        },
    }


def abstention_warnings(section: dict[str, Any]) -> list[ReportWarning]:
    """Return a warning if the coverage is not one that images like those of the calibration have."""
    outside = [s for s in section.get("sides", ()) if s["is_outside"]]
    if not outside:
        return []
    parts = [
        f"{s['label']} {s['side']} {s['coverage']:.3f} "
        f"(expected {s['expected_low']:.3f} to {s['expected_high']:.3f})"
        for s in outside
    ]
    cause = "The model may have seen these images in training."
    if any(s["coverage"] < s["expected_low"] for s in outside):
        cause = (
            "These images differ from the calibration images (another camera, other objects), or the model "
            "had seen the calibration images in training: the stated risk does not hold here. Calibrate with "
            "images like these by blemish calibrate."
        )
    return [
        ReportWarning("note", f"The coverage is outside of its expected range: {'; '.join(parts)}. {cause}")
    ]


def _presence(ground_truths: Sequence[GroundTruth], like: Prediction) -> Array:
    if like.task.has_objects:
        return np.array([[len(t) > 0] for t in ground_truths], bool)
    return np.array([t.presence_mask() for t in ground_truths], bool)


def _outcomes(decisions: Sequence[Decision], actual: Array, *, single: bool) -> _Outcomes:
    states = np.array([[state.state for state in d.states] for d in decisions])
    decided = states != "undecided"
    if single:  # a label that is excluded is no decision as long as several others are possible
        decided = np.repeat(np.array([[not d.is_review] for d in decisions]), actual.shape[1], 1)
    return _Outcomes(decided, states == "present", states == "absent", actual)


def _measure(decisions: Sequence[Decision], outcomes: _Outcomes) -> dict[str, Any]:
    decided, present, actual = outcomes.decided, outcomes.present, outcomes.actual
    hits = (decided & present & actual).sum(0)
    total = (decided & present).sum(0) + (decided & actual).sum(0)
    f1 = 2 * hits[total > 0] / total[total > 0]
    wrong = (decided & (present != actual)).any(1)
    any_decided = decided.any(1)
    return {
        "decided": float(np.mean([not d.is_review for d in decisions])),
        "decided_parts": float(decided.mean()),
        "error": float(wrong[any_decided].mean()) if any_decided.any() else None,
        "macro_f1": float(f1.mean()) if len(f1) else None,
    }


def _side(
    label: str, side: str, known: Sequence[float], actual: Array, lost: Array, units: Array, policy: Risk
) -> dict[str, Any]:
    """Return how often a side stays possible for images that have it."""
    images, covered = int(actual.sum()), int((actual & ~lost).sum())
    groups = len(np.unique(units[actual]))
    share = covered / images if images else None
    low, high = proportion_interval((share or 0) * groups, groups)
    band = coverage_interval(len(known), policy.value)
    expected = observed_band(len(known), policy.value, groups)
    return {
        "label": label,
        "side": side,
        "calibration_images": len(known),
        "band_low": band[0],
        "band_high": band[1],
        "images": images,
        "groups": groups,
        "coverage": share,
        "low": low,
        "high": high,
        "expected_low": expected[0],
        "expected_high": expected[1],
        "is_outside": share is not None and not expected[0] - 1e-9 <= share <= expected[1] + 1e-9,
    }


def _reasons(decisions: Sequence[Decision]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for decision in decisions:
        if decision.reason_code:
            counts[decision.reason_code] = counts.get(decision.reason_code, 0) + 1
    return counts
