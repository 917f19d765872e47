"""Predictions beside truths become a report; one entrance for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blemish.errors import BadInput, WrongTask
from blemish.evaluation.eval_input import EvalInput
from blemish.evaluation.label_mapping import match_labels
from blemish.evaluation.report import Report, ReportWarning
from blemish.metrics.intervals import RESAMPLES
from blemish.structures import GroundTruth, Prediction


def score(
    predictions: Sequence[Prediction],
    ground_truths: Sequence[GroundTruth],
    *,
    groups: Sequence[str | None] | None = None,
    ids: Sequence[str] | None = None,
    intervals: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    map_labels: Mapping[str, str] | None = None,
) -> Report:
    """How well predictions answer truths.

    `evaluate`, `compare` and the parity certificate come through here; a validation epoch takes
    those of the same metrics that training watches.

    Args:
        predictions: one an image, all of one model.
        ground_truths: one an image, in the same order; their labels are matched by name.
        groups: what each image shows; where given, intervals draw whole groups.
        ids: names for the images; their positions where not given.
        intervals: whether to bootstrap 95 % intervals.
        resamples: how many.
        seed: of the resampling.
        map_labels: names of the data's labels to the model's, where they differ.

    Returns:
        A report without pictures.

    Raises:
        BadInput: lengths differ, or there is nothing to score.
        UnknownName: a label of the truths that the model does not know.
        WrongTask: predictions and truths of different tasks.
    """
    if len(predictions) != len(ground_truths):
        raise BadInput(f"{len(predictions)} predictions for {len(ground_truths)} truths: give one each")
    if not predictions:
        raise BadInput("there is nothing to score: no image has both a prediction and a truth")
    task = predictions[0].task
    for other in {t.task for t in ground_truths} | {p.task for p in predictions}:
        if not task.can_score(other):
            raise WrongTask(f"predictions of {task} cannot be scored on truths of {other}")
    match = match_labels(predictions[0].labels, ground_truths[0].labels, map_labels)
    kept = [(i, t) for i, t in ((i, match.apply(t)) for i, t in enumerate(ground_truths)) if t is not None]
    if not kept:
        raise BadInput("there is nothing to score: every image's label was left out")
    positions = [i for i, _ in kept]
    drawn = _groups(groups, positions, ids)
    # Of a single group every resample is the same, and its interval would claim certainty.
    units = len(kept) if drawn is None else len(set(drawn))
    pairs = EvalInput(
        task=task,
        labels=match.model,
        known=match.known if ground_truths[0].labels.names else tuple(range(len(match.model))),
        predictions=tuple(predictions[i] for i in positions),
        ground_truths=tuple(t for _, t in kept),
        ids=tuple(ids[i] if ids is not None else str(i) for i in positions),
        groups=drawn,
        resamples=resamples if intervals and units > 1 else 0,
        seed=seed,
    )
    report: Report = task.hook("report")(pairs)
    stamps = list(report.stamps)
    if match.absent:
        stamps.append(
            ReportWarning("note", f"the data do not know the model's {_listed(match.absent)}: not scored")
        )
    if len(kept) < len(ground_truths):
        left = len(ground_truths) - len(kept)
        stamps.append(ReportWarning("note", f"{left} images of labels that were left out are not scored"))
    settings: dict[str, Any] = {
        "resamples": pairs.resamples,
        "seed": seed,
        "level": 0.95,
        "resampled": "groups" if pairs.groups is not None else "images",
        "map_labels": dict(map_labels or {}),
    }
    return replace(
        report,
        groups=None if pairs.groups is None else len(set(pairs.groups)),
        stamps=tuple(stamps),
        settings={**settings, **report.settings},
    )


def _groups(
    groups: Sequence[str | None] | None, positions: Sequence[int], ids: Sequence[str] | None
) -> tuple[str, ...] | None:
    """A group for each kept image; one whose group is unknown is a group of its own."""
    if groups is None or all(g is None for g in groups):
        return None
    names = []
    for i in positions:
        group = groups[i]
        names.append(f"image:{ids[i] if ids is not None else i}" if group is None else f"group:{group}")
    return tuple(names)


def _listed(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"label {shown}" if len(names) == 1 else f"labels {shown}"
