"""Classification and multilabel, scored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.eval_input import EvalInput
from blemish.evaluation.report import ConfusionTable, ErrorExample, LabelRow, Report
from blemish.metrics import calibration, classification
from blemish.metrics.ranking import Curve, Ranking, precision_recall_curve, roc_curve
from blemish.structures import Labels

MOST_WORST = 48
CURVE_POINTS = 200
HISTOGRAM_BINS = 20

Array = NDArray[Any]


def score_image_level(pairs: EvalInput) -> Report:
    """A report for tasks whose answer is a probability per label for the whole image."""
    single = pairs.task.has_one_label
    # With one label an image a label that the data do not know is still a wrong answer.
    known = tuple(range(len(pairs.labels))) if single else pairs.known
    labels = Labels(
        tuple(pairs.labels.names[i] for i in known), tuple(pairs.labels.display_names[i] for i in known)
    )
    columns = np.array(known, np.int64)
    scores = np.array([p.label_scores for p in pairs.predictions], np.float64)[:, columns]
    said = np.array([p.decide() for p in pairs.predictions], bool)[:, columns]
    holds = np.array([t.presence_mask() for t in pairs.ground_truths], bool)[:, columns]
    thresholds = None if single else pairs.predictions[0].thresholds[columns]
    target = holds.argmax(1) if single else holds
    figures = pairs.figures(_statistic(scores, said, holds, target))
    rows = tuple(
        LabelRow(
            label=labels.names[i],
            title=labels.display_names[i],
            support=int(holds[:, i].sum()),
            said=int(said[:, i].sum()),
            hits=int((said & holds)[:, i].sum()),
            threshold=None if thresholds is None else float(thresholds[i]),
            figures={
                name: figures[f"label_{name}"][i] for name in ("precision", "recall", "f1", "ap", "auroc")
            },
        )
        for i in range(len(labels))
    )
    return Report(
        task=pairs.task,
        labels=labels,
        headline="macro_f1",
        images=len(pairs),
        figures={name: figure for name, figure in figures.items() if not name.startswith("label_")},
        label_rows=rows,
        confusion=_confusion(said, holds, labels, single=single),
        charts=_charts(scores, said, holds, labels, single=single),
        worst=_worst(pairs, scores, said, holds, labels, thresholds),
    )


def _statistic(scores: Array, said: Array, holds: Array, target: Array) -> Any:
    """Every figure as a function of (n, r) weights."""
    rankings = [Ranking.of(scores[:, i], holds[:, i]) for i in range(scores.shape[1])]
    losses = calibration.log_losses(scores, target)
    squares = calibration.brier_scores(scores, target)
    single = target.ndim == 1
    top, rows = scores.argmax(1), np.arange(len(scores))
    judged = [(scores[rows, top], holds[rows, top])] if single else list(zip(scores.T, holds.T, strict=True))

    def statistic(weights: Array) -> dict[str, Array]:
        counts = classification.count(said, holds, weights)
        ranked = [ranking.both(weights) for ranking in rankings]
        ap, roc = (np.array([r[side] for r in ranked]) for side in (0, 1))
        errors = [calibration.reliability(s, right, weights).error for s, right in judged]
        out: dict[str, Array] = {}
        for kind in ("macro", "weighted", "micro"):
            out.update({f"{kind}_{name}": v for name, v in counts.average(kind).items()})
        return {
            "macro_f1": out.pop("macro_f1"),
            "accuracy" if single else "exact_match": classification.exact_match(said, holds, weights),
            **out,
            "macro_ap": _mean_of_defined(ap),
            "macro_auroc": _mean_of_defined(roc),
            "log_loss": classification.mean(losses, weights),
            "brier": classification.mean(squares, weights),
            "calibration_error": np.mean(errors, axis=0),
            **{f"label_{name}": values for name, values in counts.of_labels().items()},
            "label_ap": ap,
            "label_auroc": roc,
        }

    return statistic


def _mean_of_defined(values: Array) -> Array:
    """(L, r) to (r,): the mean over labels for which the figure is defined; nan where it is for none."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0).sum(0) / defined.sum(0))


def _confusion(said: Array, holds: Array, labels: Labels, *, single: bool) -> ConfusionTable | None:
    if not single:
        return None
    counts = classification.confusion_matrix(said.argmax(1), holds.argmax(1), len(labels))
    return ConfusionTable(labels.names, labels.names, counts)


def _charts(scores: Array, said: Array, holds: Array, labels: Labels, *, single: bool) -> dict[str, Any]:
    curves = []
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for i, name in enumerate(labels.names):
        of_label, ground_truth = scores[:, i], holds[:, i]
        curves.append(
            {
                "label": name,
                "precision_recall": thinned(precision_recall_curve(of_label, ground_truth)),
                "roc": thinned(roc_curve(of_label, ground_truth)),
                "histogram": {
                    "true": np.histogram(of_label[ground_truth], edges)[0].tolist(),
                    "untrue": np.histogram(of_label[~ground_truth], edges)[0].tolist(),
                },
            }
        )
    if single:
        top = scores.argmax(1)
        rows = np.arange(len(scores))
        bins = calibration.reliability(scores[rows, top], holds[rows, top])
    else:
        bins = calibration.reliability(scores.ravel(), holds.ravel())
    return {
        "curves": curves,
        "reliability": {
            "images": bins.images.astype(int).tolist(),
            "confidence": bins.confidence.tolist(),
            "accuracy": bins.accuracy.tolist(),
        },
    }


def thinned(curve: Curve, most: int = CURVE_POINTS) -> dict[str, list[float]]:
    """At most `most` points of a curve, spread evenly along it, ends included; rounded as a page needs."""
    if len(curve.x) > most:
        travelled = np.cumsum(np.abs(np.diff(curve.x, prepend=0)) + np.abs(np.diff(curve.y, prepend=0)))
        keep = np.unique(np.searchsorted(travelled, np.linspace(travelled[0], travelled[-1], most)))
        keep = np.unique(np.append(np.minimum(keep, len(curve.x) - 1), [0, len(curve.x) - 1]))
    else:
        keep = np.arange(len(curve.x))
    return {
        "x": curve.x[keep].round(5).tolist(),
        "y": curve.y[keep].round(5).tolist(),
        "threshold": curve.thresholds[keep].round(5).tolist(),
    }


def _worst(
    pairs: EvalInput, scores: Array, said: Array, holds: Array, labels: Labels, thresholds: Array | None
) -> tuple[ErrorExample, ...]:
    """The most confident mistakes: how far on the wrong side of the decision, as a share of the way."""
    wrong = said != holds
    if thresholds is None:
        severity = np.where(wrong.any(1), np.where(said, scores, 0).max(1), 0)
    else:
        over = (scores - thresholds) / np.maximum(1 - thresholds, 1e-9)
        under = (thresholds - scores) / np.maximum(thresholds, 1e-9)
        severity = np.where(wrong, np.where(said, over, under), 0).max(1, initial=0)
    order = [int(i) for i in np.argsort(-severity, kind="stable") if wrong[i].any()][:MOST_WORST]
    out = []
    for i in order:
        ground_truth = tuple(labels.names[j] for j in np.flatnonzero(holds[i]))
        verdict = tuple((labels.names[j], float(scores[i, j])) for j in np.flatnonzero(said[i]))
        out.append(
            ErrorExample(
                i,
                pairs.ids[i],
                float(np.clip(severity[i], 0, 1)),
                _what(scores[i], said[i], holds[i], labels, single=thresholds is None),
                ground_truth,
                verdict,
            )
        )
    return tuple(out)


def _what(scores: Array, said: Array, holds: Array, labels: Labels, *, single: bool) -> str:
    """One line: what was said wrongly, and what was not said."""
    display_names = labels.display_names
    if single:
        s, t = int(said.argmax()), int(holds.argmax())
        return f"said {display_names[s]} ({scores[s]:.2f}), is {display_names[t]} ({scores[t]:.2f})"
    alarms = [f"{display_names[j]} ({scores[j]:.2f})" for j in np.flatnonzero(said & ~holds)]
    misses = [f"{display_names[j]} ({scores[j]:.2f})" for j in np.flatnonzero(holds & ~said)]
    parts = [f"false alarm: {', '.join(alarms)}"] * bool(alarms) + [f"missed: {', '.join(misses)}"] * bool(
        misses
    )
    return "; ".join(parts)
