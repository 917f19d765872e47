"""Detection and instance segmentation, scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.eval_input import EvalInput, Statistic
from blemish.evaluation.image_level_report import HISTOGRAM_BINS, thinned
from blemish.evaluation.matched_objects import match_objects, rename
from blemish.evaluation.report import ConfusionTable, ErrorExample, LabelRow, MetricValue, Report
from blemish.metrics.average_precision import FIGURES, accumulate
from blemish.metrics.bootstrap_metrics import counts_at, label_figures, mean_of_defined, verdicts
from blemish.metrics.classification import count
from blemish.metrics.coco_matching import HIT, IGNORED, Matches
from blemish.metrics.object_arrays import ObjectArrays
from blemish.metrics.ranking import Curve
from blemish.metrics.tide import KINDS, Verdicts, breakdown, confusion_of_objects
from blemish.metrics.voc_average_precision import VocMatches
from blemish.structures import Labels

MOST_WORST = 48
FALSE_ALARM_NAME, MISSED_NAME = "false alarm", "missed"
OF_LABEL = ("ap", "ap50", "precision", "recall", "f1")

Array = NDArray[Any]


def score_detection(pairs: EvalInput) -> Report:
    """A report for tasks whose answer is scored boxes, with or without masks."""
    known = pairs.known
    labels = Labels(
        tuple(pairs.labels.names[i] for i in known), tuple(pairs.labels.display_names[i] for i in known)
    )
    thresholds = pairs.predictions[0].thresholds[np.array(known, np.int64)]
    masks = pairs.task.has_masks
    matches = rename(match_objects(pairs.predictions, pairs.ground_truths, masks=masks, known=known), known)
    figures = pairs.figures(_statistic(matches, thresholds))
    whole = _as_coco_says(figures, matches)
    if masks:
        of_boxes = rename(
            match_objects(pairs.predictions, pairs.ground_truths, masks=False, known=known), known
        )
        found = pairs.figures(_box_statistic(of_boxes))
        whole |= {f"box_{name}": figure for name, figure in _as_coco_says(found, of_boxes).items()}
        figures |= {"label_box_ap": found["label_ap"]}
    whole |= pairs.figures(_voc_statistic(pairs, known))
    verdict = confusion_of_objects(matches, thresholds)
    mistakes = breakdown(matches)
    return Report(
        task=pairs.task,
        labels=labels,
        headline="ap",
        images=len(pairs),
        figures=whole,
        label_rows=_label_rows(labels, thresholds, matches, figures),
        confusion=ConfusionTable(
            (*labels.names, FALSE_ALARM_NAME), (*labels.names, MISSED_NAME), verdict.confusion
        ),
        breakdown={kind: MetricValue.of(mistakes.cost[kind]) for kind in KINDS},
        charts=_charts(matches, labels),
        worst=_worst(pairs, matches, verdict, labels, thresholds),
        settings={"mistakes": mistakes.count, "iou": 0.5},
    )


def _as_coco_says(figures: dict[str, Any], matches: Matches) -> dict[str, MetricValue]:
    """Figures of the whole, COCO's twelve to the last digit: sums over copies are rounded otherwise."""
    plain = accumulate(matches)
    whole = {n: f for n, f in figures.items() if not n.startswith("label_")}
    return whole | {n: replace(whole[n], value=MetricValue.of(plain.figure(n)).value) for n in FIGURES}


def _statistic(matches: Matches, thresholds: Array) -> Statistic:
    """Every figure that has an interval, as a function of (n, r) weights."""
    said, true = verdicts(matches, thresholds)

    def statistic(weights: Array) -> dict[str, Array]:
        of_labels = label_figures(matches, weights)
        counts = counts_at(matches, thresholds, weights)
        anything = count(said[:, None], true[:, None], weights)
        return {
            **_twelve(of_labels),
            **counts.average("micro"),
            **{f"macro_{name}": value for name, value in counts.average("macro").items()},
            "image_precision": anything.precision[0],
            "image_recall": anything.recall[0],
            "image_f1": anything.f1[0],
            "label_ap": of_labels["ap"],
            "label_ap50": of_labels["ap50"],
            **{f"label_{name}": values for name, values in counts.of_labels().items()},
        }

    return statistic


def _twelve(of_labels: dict[str, Array]) -> dict[str, Array]:
    """COCO's figures of the whole, (r,) each, from those of the labels."""
    return {name: mean_of_defined(values) for name, values in of_labels.items()}


def _box_statistic(of_boxes: Matches) -> Statistic:
    """COCO's figures of the boxes of masks, and their AP by label."""

    def statistic(weights: Array) -> dict[str, Array]:
        of_labels = label_figures(of_boxes, weights)
        return {**_twelve(of_labels), "label_ap": of_labels["ap"]}

    return statistic


def _voc_statistic(pairs: EvalInput, known: Sequence[int]) -> Statistic:
    """VOC's two figures, of the labels that the data know."""
    label_count, chosen = len(pairs.labels), list(known)
    matches = VocMatches.of(
        ObjectArrays.of_predictions(pairs.predictions, label_count),
        ObjectArrays.of_ground_truths(pairs.ground_truths, label_count),
    )

    def statistic(weights: Array) -> dict[str, Array]:
        area, eleven = matches.average_precisions(weights)
        return {"voc_ap50": mean_of_defined(area[chosen]), "voc07_ap50": mean_of_defined(eleven[chosen])}

    return statistic


def _label_rows(
    labels: Labels, thresholds: Array, matches: Matches, figures: dict[str, Any]
) -> tuple[LabelRow, ...]:
    counts = counts_at(matches, thresholds, np.ones((matches.ground_truths.images, 1)))
    said = counts.hits + counts.false_alarms
    shown = [*OF_LABEL, *(["box_ap"] if "label_box_ap" in figures else [])]
    return tuple(
        LabelRow(
            label=name,
            title=title,
            support=int(counts.support[i, 0]),
            said=int(said[i, 0]),
            hits=int(counts.hits[i, 0]),
            threshold=float(thresholds[i]),
            figures={figure: figures[f"label_{figure}"][i] for figure in shown},
        )
        for i, (name, title) in enumerate(zip(labels.names, labels.display_names, strict=True))
    )


def _charts(matches: Matches, labels: Labels) -> dict[str, Any]:
    curves = []
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for i, name in enumerate(labels.names):
        rows = np.flatnonzero((matches.found.label == i) & (matches.outcome[:, 0, 0] != IGNORED))
        rows = rows[np.argsort(-matches.found.score[rows], kind="stable")]
        scores, hit = matches.found.score[rows], matches.outcome[rows, 0, 0] == HIT
        positives = matches.positives[i]
        ends = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else rows
        hits = np.cumsum(hit)[ends] if positives else np.zeros(0)
        said = (ends + 1)[: len(hits)]
        curve = Curve(hits / max(positives, 1), hits / np.maximum(said, 1), scores[ends][: len(hits)])
        curves.append(
            {
                "label": name,
                "precision_recall": thinned(curve),
                "roc": None,
                "histogram": {
                    "true": np.histogram(scores[hit], edges)[0].tolist(),
                    "untrue": np.histogram(scores[~hit], edges)[0].tolist(),
                },
            }
        )
    return {"curves": curves}


def _worst(
    pairs: EvalInput, matches: Matches, verdict: Verdicts, labels: Labels, thresholds: Array
) -> tuple[ErrorExample, ...]:
    """The images with the most missed objects and the surest false alarms."""
    found, ground_truths = matches.found, matches.ground_truths
    n = len(pairs)
    alarms = np.bincount(found.image[verdict.alarms], found.score[verdict.alarms], n)
    missed = np.bincount(ground_truths.image[verdict.missed], minlength=n)
    sure = found.score >= thresholds[found.label]
    things = np.bincount(found.image[sure], minlength=n) + np.bincount(ground_truths.image, minlength=n)
    cost = alarms + missed
    order = [int(i) for i in np.argsort(-cost, kind="stable")[:MOST_WORST] if cost[i] > 0]
    out = []
    for i in order:
        wrong = [r for r in verdict.alarms if found.image[r] == i]
        left = [
            labels.display_names[ground_truths.label[r]]
            for r in verdict.missed
            if ground_truths.image[r] == i
        ]
        named = [f"{labels.display_names[found.label[r]]} ({found.score[r]:.2f})" for r in wrong]
        parts = [f"missed: {_counted(left)}"] * bool(left) + [f"false alarm: {_listed(named)}"] * bool(named)
        said = np.flatnonzero(sure & (found.image == i))
        out.append(
            ErrorExample(
                i,
                pairs.ids[i],
                float(cost[i] / things[i]),
                "; ".join(parts),
                tuple(labels.names[ground_truths.label[r]] for r in np.flatnonzero(ground_truths.image == i)),
                tuple((labels.names[found.label[r]], float(found.score[r])) for r in said),
            )
        )
    return tuple(out)


def _counted(names: Sequence[str]) -> str:
    """`3 dent, scratch`."""
    return _listed([f"{n} {name}" if n > 1 else name for name, n in Counter(names).most_common()])


def _listed(names: Sequence[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
