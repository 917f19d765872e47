"""One box an image, scored."""

from __future__ import annotations

import numpy as np

from blemish.errors import BadInput
from blemish.evaluation.eval_input import EvalInput
from blemish.evaluation.report import ErrorExample, Report, ReportWarning
from blemish.metrics.localization import COORDINATES, BoxErrors

MOST_WORST = 48


def score_localization(pairs: EvalInput) -> Report:
    """A report of how well one box an image fits.

    Raises:
        BadInput: a truth or a prediction does not hold exactly one box.
    """
    boxes = []
    for kind, side in (("prediction", pairs.predictions), ("truth", pairs.ground_truths)):
        for name, annotation in zip(pairs.ids, side, strict=True):
            if annotation.boxes_xyxy is None or len(annotation.boxes_xyxy) != 1:
                raise BadInput(f"{name}: the {kind} holds {len(annotation)} boxes; localization takes one")
        boxes.append(np.array([a.boxes_xyxy[0] for a in side if a.boxes_xyxy is not None]))
    errors = BoxErrors.of(*boxes)
    stamps: tuple[ReportWarning, ...] = ()
    if errors.zero_ground_truths:
        text = f"{errors.zero_ground_truths} true coordinates are 0 and take no part in the relative accuracy"
        stamps = (ReportWarning("note", text),)
    order = [int(i) for i in np.argsort(errors.iou, kind="stable")[:MOST_WORST]]
    worst = tuple(ErrorExample(i, pairs.ids[i], 1 - float(errors.iou[i]), describe(errors, i)) for i in order)
    edges = np.linspace(0, 1, 21)
    return Report(
        task=pairs.task,
        labels=pairs.labels,
        headline="mean_iou",
        images=len(pairs),
        figures=pairs.figures(errors.figures),
        charts={"iou": np.histogram(errors.iou, edges)[0].tolist()},
        worst=worst,
        stamps=stamps,
        settings={"zero_truths": errors.zero_ground_truths},
    )


def describe(errors: BoxErrors, row: int) -> str:
    """One image's numbers on one line: overlap and each coordinate's error in pixels."""
    off = ", ".join(f"{n} {e:.1f}" for n, e in zip(COORDINATES, errors.absolute[row], strict=True))
    return f"IoU {errors.iou[row]:.3f}; off by {off} px"
