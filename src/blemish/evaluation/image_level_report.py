"""The report of classification and multilabel models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.eval_input import EvalInput, Statistic
from blemish.evaluation.report import ConfusionTable, ErrorExample, LabelRow, Report
from blemish.metrics import calibration, classification
from blemish.metrics.classification import mean_of_defined
from blemish.metrics.rank_metrics import Curve, Ranking, precision_recall_curve, roc_curve
from blemish.structures import Labels

MAX_ERRORS = 48
MAX_CURVE_POINTS = 200
HISTOGRAM_BINS = 20
LABEL_METRICS = ("precision", "recall", "f1", "ap", "auroc")

Array = NDArray[Any]


def score_image_level(eval_input: EvalInput) -> Report:
    """Return the report of a task that predicts one probability per label for the whole image."""
    single = eval_input.task.has_one_label
    if single:  # predicting a label that the data set does not have is still an error
        eval_input = replace(eval_input, known=tuple(range(len(eval_input.labels))))
    labels, columns = eval_input.known_labels, np.array(eval_input.known, np.int64)
    scores = np.array([p.label_scores for p in eval_input.predictions], np.float64)[:, columns]
    predicted = np.array([p.decide() for p in eval_input.predictions], bool)[:, columns]
    positive = np.array([t.presence_mask() for t in eval_input.ground_truths], bool)[:, columns]
    thresholds = None if single else eval_input.predictions[0].thresholds[columns]
    target = positive.argmax(1) if single else positive
    metrics = eval_input.with_intervals(_statistic(scores, predicted, positive, target))
    rows = tuple(
        LabelRow(
            label=labels.names[i],
            display_name=labels.display_names[i],
            support=int(positive[:, i].sum()),
            predicted=int(predicted[:, i].sum()),
            true_positives=int((predicted & positive)[:, i].sum()),
            threshold=None if thresholds is None else float(thresholds[i]),
            metrics={name: metrics[f"label_{name}"][i] for name in LABEL_METRICS},
            reliable=labels.names[i] not in eval_input.predictions[0].unreliable,
        )
        for i in range(len(labels))
    )
    return Report(
        task=eval_input.task,
        labels=labels,
        primary_metric="macro_f1",
        images=len(eval_input),
        metrics={name: metric for name, metric in metrics.items() if not name.startswith("label_")},
        label_rows=rows,
        confusion_matrix=_confusion_matrix(predicted, positive, labels) if single else None,
        charts=_charts(scores, positive, labels, single=single),
        top_errors=_top_errors(eval_input, scores, predicted, positive, labels, thresholds),
    )


def _statistic(scores: Array, predicted: Array, positive: Array, target: Array) -> Statistic:
    """Return every metric as a function of (n, r) weights."""
    rankings = [Ranking.of(scores[:, i], positive[:, i]) for i in range(scores.shape[1])]
    losses = calibration.log_losses(scores, target)
    squares = calibration.brier_scores(scores, target)
    single = target.ndim == 1
    top, rows = scores.argmax(1), np.arange(len(scores))
    if single:  # only the score of the predicted label is calibrated
        calibrated = [(scores[rows, top], positive[rows, top])]
    else:
        calibrated = list(zip(scores.T, positive.T, strict=True))

    def statistic(weights: Array) -> dict[str, Array]:
        counts = classification.count_outcomes(predicted, positive, weights)
        ranked = [ranking.ap_and_auroc(weights) for ranking in rankings]
        ap, auroc = (np.array([r[side] for r in ranked]) for side in (0, 1))
        errors = [calibration.reliability(s, correct, weights).error for s, correct in calibrated]
        averages: dict[str, Array] = {}
        for kind in ("macro", "weighted", "micro"):
            averages.update({f"{kind}_{name}": v for name, v in counts.average(kind).items()})
        return {
            "macro_f1": averages.pop("macro_f1"),
            "accuracy" if single else "exact_match": classification.exact_match(predicted, positive, weights),
            **averages,
            "macro_ap": mean_of_defined(ap),
            "macro_auroc": mean_of_defined(auroc),
            "log_loss": classification.weighted_mean(losses, weights),
            "brier": classification.weighted_mean(squares, weights),
            "calibration_error": np.mean(errors, axis=0),
            **{f"label_{name}": values for name, values in counts.of_labels().items()},
            "label_ap": ap,
            "label_auroc": auroc,
        }

    return statistic


def _confusion_matrix(predicted: Array, positive: Array, labels: Labels) -> ConfusionTable:
    counts = classification.confusion_matrix(predicted.argmax(1), positive.argmax(1), len(labels))
    return ConfusionTable(labels.names, labels.names, counts)


def _charts(scores: Array, positive: Array, labels: Labels, *, single: bool) -> dict[str, Any]:
    """Return the points and bars that the page draws: curves and histograms per label, and reliability."""
    curves = []
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for i, name in enumerate(labels.names):
        of_label, true = scores[:, i], positive[:, i]
        curves.append(
            {
                "label": name,
                "precision_recall": thin_curve(precision_recall_curve(of_label, true)),
                "roc": thin_curve(roc_curve(of_label, true)),
                "histogram": {
                    "positive": np.histogram(of_label[true], edges)[0].tolist(),
                    "negative": np.histogram(of_label[~true], edges)[0].tolist(),
                },
            }
        )
    if single:
        top, rows = scores.argmax(1), np.arange(len(scores))
        bins = calibration.reliability(scores[rows, top], positive[rows, top])
    else:
        bins = calibration.reliability(scores.ravel(), positive.ravel())
    return {
        "curves": curves,
        "reliability": {
            "counts": bins.counts.astype(int).tolist(),
            "confidence": bins.confidence.tolist(),
            "accuracy": bins.accuracy.tolist(),
        },
    }


def thin_curve(curve: Curve, max_points: int = MAX_CURVE_POINTS) -> dict[str, list[float]]:
    """Return about `max_points` points of a curve, evenly spaced along it, both ends included.

    Args:
        curve: any number of points.
        max_points: the number of points; the two ends may add up to two more.

    Returns:
        `x`, `y` and `threshold`, rounded to five decimals.
    """
    if len(curve.x) > max_points:
        length = np.cumsum(np.abs(np.diff(curve.x, prepend=0)) + np.abs(np.diff(curve.y, prepend=0)))
        keep = np.unique(np.searchsorted(length, np.linspace(length[0], length[-1], max_points)))
        keep = np.unique(np.append(np.minimum(keep, len(curve.x) - 1), [0, len(curve.x) - 1]))
    else:
        keep = np.arange(len(curve.x))
    return {
        "x": curve.x[keep].round(5).tolist(),
        "y": curve.y[keep].round(5).tolist(),
        "threshold": curve.thresholds[keep].round(5).tolist(),
    }


def _top_errors(
    eval_input: EvalInput,
    scores: Array,
    predicted: Array,
    positive: Array,
    labels: Labels,
    thresholds: Array | None,
) -> tuple[ErrorExample, ...]:
    """Return the most confident errors.

    The severity is the score of the predicted label, or for thresholds the distance of the score from the
    threshold as a share of the largest possible distance.
    """
    wrong = predicted != positive
    if thresholds is None:
        severity = np.where(wrong.any(1), np.where(predicted, scores, 0).max(1), 0)
    else:
        above = (scores - thresholds) / np.maximum(1 - thresholds, 1e-9)
        below = (thresholds - scores) / np.maximum(thresholds, 1e-9)
        severity = np.where(wrong, np.where(predicted, above, below), 0).max(1, initial=0)
    order = [int(i) for i in np.argsort(-severity, kind="stable") if wrong[i].any()][:MAX_ERRORS]
    return tuple(
        ErrorExample(
            position=i,
            id=eval_input.ids[i],
            severity=float(np.clip(severity[i], 0, 1)),
            description=_description(scores[i], predicted[i], positive[i], labels, single=thresholds is None),
            ground_truth=tuple(labels.names[j] for j in np.flatnonzero(positive[i])),
            predicted=tuple((labels.names[j], float(scores[i, j])) for j in np.flatnonzero(predicted[i])),
        )
        for i in order
    )


def _description(scores: Array, predicted: Array, positive: Array, labels: Labels, *, single: bool) -> str:
    """Return one line: the wrong label and the true one, or the false positives and the missed labels."""
    shown = [f"{name} ({score:.2f})" for name, score in zip(labels.display_names, scores, strict=True)]
    if single:
        return f"predicted {shown[int(predicted.argmax())]}, true label {shown[int(positive.argmax())]}"
    parts = []
    for kind, rows in (("false positive", predicted & ~positive), ("missed", positive & ~predicted)):
        if rows.any():
            parts.append(f"{kind}: {', '.join(shown[j] for j in np.flatnonzero(rows))}")
    return "; ".join(parts)
