"""Detection: any number of labeled boxes per image."""

from __future__ import annotations

from dataclasses import replace

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import WrongTask
from blemish.structures import GroundTruth, Labels
from blemish.task import Task, TaskFields
from blemish.tasks._objects import describe, synthetic_labels


def convert(ground_truth: GroundTruth, where: str) -> GroundTruth:
    """Return the boxes of the image, without masks.

    Args:
        ground_truth: of another task.
        where: the sample, for the error.

    Raises:
        WrongTask: the ground truth has no boxes.
    """
    if not ground_truth.task.has_boxes:
        raise WrongTask(
            f"{where}: detection needs boxes, got a {ground_truth.task} data set. "
            "Label the boxes, or choose another task.",
            reason="needs-boxes",
        )
    return replace(ground_truth, task=DETECTION, masks=None)


def synthesize(
    label_index: IntArray,
    boxes_xyxy: FloatArray,
    masks: tuple[Mask, ...],
    labels: Labels,
    size_hw: tuple[int, int],
) -> GroundTruth:
    """Return the boxes of the drawn objects.

    Args:
        label_index: (n,) int64 among `labels`.
        boxes_xyxy: (n, 4) float64 pixels.
        masks: n masks; not used.
        labels: of the damage.
        size_hw: height and width of the image in pixels.
    """
    return GroundTruth(
        task=DETECTION, labels=labels, label_index=label_index, size_hw=size_hw, boxes_xyxy=boxes_xyxy
    )


METRICS = ("ap", "ap50", "ap75", "ar_100")

DETECTION = Task.define(
    "detection",
    TaskFields(
        summary="boxes with labels; scored boxes",
        ground_truth="boxes",
        scorable_ground_truth=("segmentation",),
        primary_metric="ap",
        validation_metrics=METRICS,
        leading_metrics=("ap50", "ap75", "precision", "recall", "f1"),
        summary_metrics=("ap", "ap50", "ap75", "ar_100", "macro_f1"),
        comparison_metrics=("ap", "ap50", "ap75", "f1"),
        label_metric="ap",
        counted="objects",
        default_format="coco",
        hub_tag="object-detection",
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
