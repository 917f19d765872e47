"""Instance segmentation: any number of labeled masks per image."""

from __future__ import annotations

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import WrongTask
from blemish.structures import GroundTruth, Labels
from blemish.task import Task, TaskFields
from blemish.tasks._objects import describe, synthetic_labels
from blemish.tasks.detection_task import METRICS


def convert(ground_truth: GroundTruth, where: str) -> GroundTruth:
    """Refuse: masks cannot be derived from labels or boxes.

    Raises:
        WrongTask: always.
    """
    raise WrongTask(
        f"{where}: segmentation needs outlines, got a {ground_truth.task} data set. "
        "Label the outlines, or choose another task.",
        reason="needs-outlines",
    )


def synthesize(
    label_index: IntArray,
    boxes_xyxy: FloatArray,
    masks: tuple[Mask, ...],
    labels: Labels,
    size_hw: tuple[int, int],
) -> GroundTruth:
    """Return the boxes and masks of the drawn objects.

    Args:
        label_index: (n,) int64 among `labels`.
        boxes_xyxy: (n, 4) float64 pixels.
        masks: n masks.
        labels: of the damage.
        size_hw: height and width of the image in pixels.
    """
    return GroundTruth(
        task=SEGMENTATION,
        labels=labels,
        label_index=label_index,
        size_hw=size_hw,
        boxes_xyxy=boxes_xyxy,
        masks=masks,
    )


SEGMENTATION = Task.define(
    "segmentation",
    TaskFields(
        summary="masks with labels; scored boxes with masks",
        ground_truth="masks",
        primary_metric="ap",
        validation_metrics=(*METRICS, *(f"box_{name}" for name in METRICS)),
        leading_metrics=("ap50", "ap75", "box_ap", "precision", "recall"),
        summary_metrics=("ap", "ap50", "ap75", "box_ap", "box_ap50", "macro_f1"),
        comparison_metrics=("ap", "ap50", "ap75", "f1"),
        label_metric="ap",
        counted="objects",
        default_format="coco",
        hub_tag="image-segmentation",
        hooks={
            "convert": convert,
            "synthesize": synthesize,
            "synthetic_labels": synthetic_labels,
            "describe": describe,
            "abstention": "blemish.evaluation.abstention_calibration:collect_object_scores",
            "report": "blemish.evaluation.detection_report:score_detection",
            "decision_differences": "blemish.evaluation.decision_differences:object_differences",
            "decision_error": "blemish.evaluation.decision_differences:object_error",
        },
    ),
    module=__name__,
)
