"""`score_predictions`: a report from predictions and ground truth, for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blemish.errors import BadInput, WrongTask
from blemish.evaluation.eval_input import EvalInput
from blemish.evaluation.label_match import match_labels
from blemish.evaluation.report import MetricValue, Report, ReportWarning
from blemish.metrics.custom_metrics import compute_custom_metrics, resampled_statistic
from blemish.metrics.intervals import RESAMPLES
from blemish.metrics.metric_table import custom_metrics
from blemish.structures import GroundTruth, Prediction


def score_predictions(
    predictions: Sequence[Prediction],
    ground_truths: Sequence[GroundTruth],
    *,
    groups: Sequence[str | None] | None = None,
    ids: Sequence[str] | None = None,
    intervals: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    label_map: Mapping[str, str] | None = None,
) -> Report:
    """Compare predictions with ground truth.

    `evaluate`, `compare` and the parity certificate call this function; a validation epoch computes a part
    of the same metrics.

    Args:
        predictions: one per image, all of one model.
        ground_truths: one per image, in the same order; their labels are matched by name.
        groups: the group of each image, such as the vehicle that it shows; intervals then draw whole groups.
        ids: the id of each image [default: its position].
        intervals: whether to compute 95 % bootstrap intervals.
        resamples: the number of bootstrap resamples.
        seed: the random seed of the bootstrap.
        label_map: the data set's label names to the model's, for labels whose names differ; "" leaves a
            label out.

    Returns:
        A report without thumbnails.

    Raises:
        BadInput: the lengths differ, or there is nothing to compare.
        UnknownName: the model does not have a label of the ground truth.
        WrongTask: predictions and ground truth are of different tasks.
    """
    if len(predictions) != len(ground_truths):
        raise BadInput(
            f"expected one prediction and one ground truth per image, got {len(predictions)} predictions and "
            f"{len(ground_truths)} ground truths",
            reason="shape",
        )
    if not predictions:
        raise BadInput(
            "there is nothing to evaluate: expected at least one image with a prediction and a ground truth",
            reason="nothing-to-evaluate",
        )
    task = predictions[0].task
    for other in {t.task for t in ground_truths} | {p.task for p in predictions}:
        if not task.can_score(other):
            raise WrongTask(f"predictions of {task} cannot be compared with ground truth of {other}")
    match = match_labels(predictions[0].labels, ground_truths[0].labels, label_map)
    kept = [(i, t) for i, t in ((i, match.apply(t)) for i, t in enumerate(ground_truths)) if t is not None]
    if not kept:
        raise BadInput(
            "there is nothing to evaluate: the label map leaves out the label of every image",
            reason="nothing-to-evaluate",
        )
    positions = [i for i, _ in kept]
    groups_of_kept = _groups(groups, positions, ids)
    # All resamples of a single group are equal; their interval would have the width 0.
    units = len(kept) if groups_of_kept is None else len(set(groups_of_kept))
    eval_input = EvalInput(
        task=task,
        labels=match.model,
        known=match.known if ground_truths[0].labels.names else tuple(range(len(match.model))),
        predictions=tuple(predictions[i] for i in positions),
        ground_truths=tuple(t for _, t in kept),
        ids=tuple(ids[i] if ids is not None else str(i) for i in positions),
        groups=groups_of_kept,
        resamples=resamples if intervals and units > 1 else 0,
        seed=seed,
    )
    report: Report = task.hook("report")(eval_input)
    custom_values, warnings = _custom_metrics(eval_input)
    warnings = [*report.warnings, *warnings]
    if match.absent:
        # With one label per image, predicting a label that no image has is an error; the report counts it.
        effect = (
            "predicting them counts as an error, and their recall cannot be measured"
            if task.has_one_label
            else "they are not evaluated"
        )
        text = f"The data set lacks {_listed(match.absent)} of the model: {effect}."
        warnings.append(ReportWarning("note", text))
    if len(kept) < len(ground_truths):
        number = len(ground_truths) - len(kept)
        text = f"The label map leaves out the labels of {number} images: they are not evaluated."
        warnings.append(ReportWarning("note", text))
    settings: dict[str, Any] = {
        "resamples": eval_input.resamples,
        "seed": seed,
        "confidence_level": 0.95,
        "resampled_unit": "group" if eval_input.groups is not None else "image",
        "label_map": dict(label_map or {}),
    }
    return replace(
        report,
        metrics={**report.metrics, **custom_values},
        groups=None if eval_input.groups is None else len(set(eval_input.groups)),
        warnings=tuple(warnings),
        settings={**settings, **report.settings},
    )


def _custom_metrics(eval_input: EvalInput) -> tuple[dict[str, MetricValue], list[ReportWarning]]:
    """Compute the third-party metrics, and return a warning for each one that fails."""
    task, ground_truths, predictions = eval_input.task, eval_input.ground_truths, eval_input.predictions
    computed = compute_custom_metrics(task, ground_truths, predictions)
    values = {name: MetricValue.of(value) for name, value in computed.values.items()}
    resampled = [s for s in custom_metrics(task) if s.bootstrap and s.name not in computed.failures]
    if resampled and eval_input.resamples:
        values |= eval_input.with_intervals(resampled_statistic(resampled, ground_truths, predictions))
    return values, [ReportWarning("failed-metric", f"{text}.") for text in computed.failures.values()]


def _groups(
    groups: Sequence[str | None] | None, positions: Sequence[int], ids: Sequence[str] | None
) -> tuple[str, ...] | None:
    """Return the group of each kept image; an image without a group is a group of its own."""
    if groups is None or all(g is None for g in groups):
        return None
    names = []
    for i in positions:
        group = groups[i]
        names.append(f"image:{ids[i] if ids is not None else i}" if group is None else f"group:{group}")
    return tuple(names)


def _listed(names: Sequence[str], max_names: int = 6) -> str:
    shown = ", ".join(names[:max_names])
    shown += f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return f"the label {shown}" if len(names) == 1 else f"{len(names)} labels ({shown})"
