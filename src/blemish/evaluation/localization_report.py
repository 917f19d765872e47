"""The report of localization models: one box per image."""

from __future__ import annotations

import numpy as np

from blemish.errors import BadInput
from blemish.evaluation.eval_input import EvalInput
from blemish.evaluation.report import ErrorExample, Report, ReportWarning
from blemish.metrics.localization import COORDINATES, BoxErrors

MAX_ERRORS = 48
HISTOGRAM_BINS = 20


def score_localization(eval_input: EvalInput) -> Report:
    """Return the report of a task that predicts one box per image.

    Raises:
        BadInput: a ground truth or a prediction does not have exactly one box; the message names the image.
    """
    boxes = []
    for kind, side in (("prediction", eval_input.predictions), ("ground truth", eval_input.ground_truths)):
        for name, annotation in zip(eval_input.ids, side, strict=True):
            if annotation.boxes_xyxy is None or len(annotation.boxes_xyxy) != 1:
                raise BadInput(
                    f"{name}: expected one box in the {kind}, got {len(annotation)}", reason="number-of-boxes"
                )
        boxes.append(np.array([a.boxes_xyxy[0] for a in side if a.boxes_xyxy is not None]))
    errors = BoxErrors.of(*boxes)
    warnings: tuple[ReportWarning, ...] = ()
    if errors.zero_ground_truths:
        text = f"{errors.zero_ground_truths} true coordinates are 0: the relative accuracy leaves them out."
        warnings = (ReportWarning("note", text),)
    order = [int(i) for i in np.argsort(errors.iou, kind="stable")[:MAX_ERRORS]]
    return Report(
        task=eval_input.task,
        labels=eval_input.labels,
        primary_metric="mean_iou",
        images=len(eval_input),
        metrics=eval_input.with_intervals(errors.metrics),
        charts={"iou_histogram": np.histogram(errors.iou, np.linspace(0, 1, HISTOGRAM_BINS + 1))[0].tolist()},
        top_errors=tuple(
            ErrorExample(i, eval_input.ids[i], 1 - float(errors.iou[i]), describe_errors(errors, i))
            for i in order
        ),
        warnings=warnings,
        settings={"zero_ground_truths": errors.zero_ground_truths},
    )


def describe_errors(errors: BoxErrors, row: int) -> str:
    """Return one line with an image's IoU and the error of each coordinate in pixels."""
    shown = ", ".join(f"{n} {e:.1f}" for n, e in zip(COORDINATES, errors.absolute[row], strict=True))
    return f"IoU {errors.iou[row]:.3f}; errors in pixels: {shown}"
