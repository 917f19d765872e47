"""The report of detection and instance segmentation models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.eval_input import EvalInput, Statistic
from blemish.evaluation.image_level_report import HISTOGRAM_BINS, thin_curve
from blemish.evaluation.matched_objects import match_objects, select_labels
from blemish.evaluation.report import ConfusionTable, ErrorCost, ErrorExample, LabelRow, MetricValue, Report
from blemish.metrics.average_precision import COCO_METRICS, accumulate
from blemish.metrics.bootstrap_metrics import count_at_thresholds, image_presence, label_metrics
from blemish.metrics.classification import count_outcomes, mean_of_defined
from blemish.metrics.coco_matches import IGNORED, TRUE_POSITIVE, Matches
from blemish.metrics.object_arrays import ObjectArrays
from blemish.metrics.rank_metrics import Curve
from blemish.metrics.tide import ERROR_TYPES, ObjectConfusion, object_confusion, tide_breakdown
from blemish.metrics.voc_average_precision import VocMatches
from blemish.structures import Labels

MAX_ERRORS = 48
FALSE_POSITIVE_ROW, MISSED_COLUMN = "false positive", "missed"
LABEL_METRICS = ("ap", "ap50", "precision", "recall", "f1")

Array = NDArray[Any]


def score_detection(eval_input: EvalInput) -> Report:
    """Return the report of a task that predicts scored boxes, with or without masks."""
    known, labels = eval_input.known, eval_input.known_labels
    thresholds = eval_input.predictions[0].thresholds[np.array(known, np.int64)]
    masks = eval_input.task.has_masks
    matches = _match(eval_input, masks=masks)
    computed = eval_input.with_intervals(_statistic(matches, thresholds))
    metrics = _exact_metrics(computed, matches)
    if masks:
        box_matches = _match(eval_input, masks=False)
        of_boxes = eval_input.with_intervals(_box_statistic(box_matches))
        metrics |= {f"box_{name}": metric for name, metric in _exact_metrics(of_boxes, box_matches).items()}
        computed |= {"label_box_ap": of_boxes["label_ap"]}
    metrics |= eval_input.with_intervals(_voc_statistic(eval_input))
    confusion = object_confusion(matches, thresholds)
    tide = tide_breakdown(matches)
    return Report(
        task=eval_input.task,
        labels=labels,
        primary_metric="ap",
        images=len(eval_input),
        metrics=metrics,
        label_rows=_label_rows(labels, thresholds, matches, computed, eval_input.predictions[0].unreliable),
        confusion_matrix=ConfusionTable(
            (*labels.names, FALSE_POSITIVE_ROW), (*labels.names, MISSED_COLUMN), confusion.matrix
        ),
        tide={error: ErrorCost(tide.ap50_cost[error], tide.count[error]) for error in ERROR_TYPES},
        charts=_charts(matches, labels),
        top_errors=_top_errors(eval_input, matches, confusion, labels, thresholds),
        settings={"iou": 0.5},
    )


def _match(eval_input: EvalInput, *, masks: bool) -> Matches:
    """Match the objects of the labels that the data set has."""
    known = eval_input.known
    matches = match_objects(eval_input.predictions, eval_input.ground_truths, masks=masks, known=known)
    return select_labels(matches, known)


def _exact_metrics(computed: dict[str, Any], matches: Matches) -> dict[str, MetricValue]:
    """Return the metrics over all labels, with the values of COCO's twelve equal to pycocotools' bit for bit.

    The statistic of the bootstrap adds numbers up in another order, which may change the last digit.
    """
    exact = accumulate(matches)
    metrics = {n: m for n, m in computed.items() if not n.startswith("label_")}
    return metrics | {
        n: replace(metrics[n], value=MetricValue.of(exact.metric(n)).value) for n in COCO_METRICS
    }


def _statistic(matches: Matches, thresholds: Array) -> Statistic:
    """Return every metric with an interval as a function of (n, r) weights."""
    predicted, true = image_presence(matches, thresholds)

    def statistic(weights: Array) -> dict[str, Array]:
        of_labels = label_metrics(matches, weights)
        counts = count_at_thresholds(matches, thresholds, weights)
        of_images = count_outcomes(predicted[:, None], true[:, None], weights)
        return {
            **_coco_means(of_labels),
            **counts.average("micro"),
            **{f"macro_{name}": value for name, value in counts.average("macro").items()},
            "image_precision": of_images.precision[0],
            "image_recall": of_images.recall[0],
            "image_f1": of_images.f1[0],
            "label_ap": of_labels["ap"],
            "label_ap50": of_labels["ap50"],
            **{f"label_{name}": values for name, values in counts.of_labels().items()},
        }

    return statistic


def _coco_means(of_labels: dict[str, Array]) -> dict[str, Array]:
    """Return COCO's metrics over all labels, (r,) each, from those of the labels, (L, r) each."""
    return {name: mean_of_defined(values) for name, values in of_labels.items()}


def _box_statistic(box_matches: Matches) -> Statistic:
    """Return COCO's metrics of a segmentation model's boxes, and their AP per label."""

    def statistic(weights: Array) -> dict[str, Array]:
        of_labels = label_metrics(box_matches, weights)
        return {**_coco_means(of_labels), "label_ap": of_labels["ap"]}

    return statistic


def _voc_statistic(eval_input: EvalInput) -> Statistic:
    """Return VOC's two metrics over the labels that the data set has."""
    label_count, known = len(eval_input.labels), list(eval_input.known)
    matches = VocMatches.of(
        ObjectArrays.of_predictions(eval_input.predictions, label_count),
        ObjectArrays.of_ground_truths(eval_input.ground_truths, label_count),
    )

    def statistic(weights: Array) -> dict[str, Array]:
        area, eleven = matches.average_precisions(weights)
        return {"voc_ap50": mean_of_defined(area[known]), "voc07_ap50": mean_of_defined(eleven[known])}

    return statistic


def _label_rows(
    labels: Labels,
    thresholds: Array,
    matches: Matches,
    computed: dict[str, Any],
    unreliable: Sequence[str],
) -> tuple[LabelRow, ...]:
    counts = count_at_thresholds(matches, thresholds, np.ones((matches.ground_truths.images, 1)))
    predicted = counts.true_positives + counts.false_positives
    shown = [*LABEL_METRICS, *(["box_ap"] if "label_box_ap" in computed else [])]
    return tuple(
        LabelRow(
            label=name,
            display_name=display_name,
            support=int(counts.support[i, 0]),
            predicted=int(predicted[i, 0]),
            true_positives=int(counts.true_positives[i, 0]),
            threshold=float(thresholds[i]),
            metrics={metric: computed[f"label_{metric}"][i] for metric in shown},
            reliable=name not in unreliable,
        )
        for i, (name, display_name) in enumerate(zip(labels.names, labels.display_names, strict=True))
    )


def _charts(matches: Matches, labels: Labels) -> dict[str, Any]:
    """Return the precision-recall curve and the histogram of scores of each label."""
    curves = []
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for i, name in enumerate(labels.names):
        rows = np.flatnonzero((matches.detections.label == i) & (matches.outcome[:, 0, 0] != IGNORED))
        rows = rows[np.argsort(-matches.detections.score[rows], kind="stable")]
        scores = matches.detections.score[rows]
        correct = matches.outcome[rows, 0, 0] == TRUE_POSITIVE
        positives = matches.positives[i]
        ends = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else rows
        true_positives = np.cumsum(correct)[ends] if positives else np.zeros(0)
        predicted = (ends + 1)[: len(true_positives)]
        curve = Curve(
            true_positives / max(positives, 1),
            true_positives / np.maximum(predicted, 1),
            scores[ends][: len(true_positives)],
        )
        curves.append(
            {
                "label": name,
                "precision_recall": thin_curve(curve),
                "roc": None,
                "histogram": {
                    "positive": np.histogram(scores[correct], edges)[0].tolist(),
                    "negative": np.histogram(scores[~correct], edges)[0].tolist(),
                },
            }
        )
    return {"curves": curves}


def _top_errors(
    eval_input: EvalInput, matches: Matches, confusion: ObjectConfusion, labels: Labels, thresholds: Array
) -> tuple[ErrorExample, ...]:
    """Return the images with the most missed objects and the most confident false positives.

    The severity is the number of missed objects plus the scores of the false positives, as a share of all
    objects and confident detections of the image.
    """
    detections, ground_truths = matches.detections, matches.ground_truths
    n = len(eval_input)
    wrong_scores = np.bincount(
        detections.image[confusion.false_positives], detections.score[confusion.false_positives], n
    )
    cost = wrong_scores + np.bincount(ground_truths.image[confusion.missed], minlength=n)
    confident = detections.score >= thresholds[detections.label]
    objects = np.bincount(detections.image[confident], minlength=n)
    objects += np.bincount(ground_truths.image, minlength=n)
    out = []
    for i in [int(i) for i in np.argsort(-cost, kind="stable")[:MAX_ERRORS] if cost[i] > 0]:
        wrong = confusion.false_positives[detections.image[confusion.false_positives] == i]
        missed = confusion.missed[ground_truths.image[confusion.missed] == i]
        names = [labels.display_names[label] for label in ground_truths.label[missed]]
        scored = [
            f"{labels.display_names[label]} ({score:.2f})"
            for label, score in zip(detections.label[wrong], detections.score[wrong], strict=True)
        ]
        parts = [f"missed: {_count_names(names)}"] * bool(names)
        parts += [f"false positive: {_listed(scored)}"] * bool(scored)
        shown = np.flatnonzero(confident & (detections.image == i))
        out.append(
            ErrorExample(
                position=i,
                id=eval_input.ids[i],
                severity=float(cost[i] / objects[i]),
                description="; ".join(parts),
                ground_truth=tuple(labels.names[k] for k in ground_truths.label[ground_truths.image == i]),
                predicted=tuple(
                    (labels.names[detections.label[r]], float(detections.score[r])) for r in shown
                ),
            )
        )
    return tuple(out)


def _count_names(names: Sequence[str]) -> str:
    """Return text such as `3 x dent, scratch`."""
    return _listed([f"{n} x {name}" if n > 1 else name for name, n in Counter(names).most_common()])


def _listed(names: Sequence[str], max_names: int = 4) -> str:
    more = len(names) - max_names
    return ", ".join(names[:max_names]) + (f" and {more} more" if more > 0 else "")
