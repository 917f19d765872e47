"""Localization: exactly one box per image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import BadDataset, WrongTask
from blemish.structures import GroundTruth, Labels, Prediction, Sample
from blemish.task import Task, TaskFields


def convert(ground_truth: GroundTruth, where: str) -> GroundTruth:
    """Return the one box of the image.

    Args:
        ground_truth: of another task.
        where: the sample, for the error.

    Raises:
        WrongTask: the ground truth has no boxes, or not exactly one.
    """
    if not ground_truth.task.has_boxes:
        raise WrongTask(
            f"{where}: localization needs boxes, got a {ground_truth.task} data set. "
            "Label the boxes, or choose another task.",
            reason="needs-boxes",
        )
    if len(ground_truth) != 1:
        raise WrongTask(
            f"{where}: localization takes exactly one box per image, got {len(ground_truth)}. "
            "Use task=detection.",
            reason="box-count",
        )
    return replace(ground_truth, task=LOCALIZATION, masks=None)


def synthesize(
    label_index: IntArray,
    boxes_xyxy: FloatArray,
    masks: tuple[Mask, ...],
    labels: Labels,
    size_hw: tuple[int, int],
) -> GroundTruth:
    """Return the box of the first drawn object, with label 0.

    Args:
        label_index: (n,) int64; not used.
        boxes_xyxy: (n, 4) float64 pixels.
        masks: n masks; not used.
        labels: the one label of the set.
        size_hw: height and width of the image in pixels.
    """
    boxes = boxes_xyxy[:1]
    return GroundTruth(
        task=LOCALIZATION,
        labels=labels,
        label_index=np.zeros(len(boxes), np.int64),
        size_hw=size_hw,
        boxes_xyxy=boxes,
    )


def synthetic_labels(damage: Labels, clean: tuple[str, str]) -> Labels:
    """Return the one label of a synthetic data set: "damage"."""
    return Labels(("damage",), ("Damage",))


def describe(prediction: Prediction) -> str:
    """Return the box as "box x1 y1 x2 y2", in pixels."""
    assert prediction.boxes_xyxy is not None  # noqa: S101  (a task with boxes)
    return "box " + " ".join(f"{x:.1f}" for x in prediction.boxes_xyxy[0])


def check_sample(sample: Sample, where: str) -> None:
    """Refuse a training image without exactly one box.

    Raises:
        BadDataset: it has none, or several.
    """
    if sample.ground_truth is not None and len(sample.ground_truth) != 1:
        raise BadDataset(
            f"{where}: localization takes exactly one box per image, got {len(sample.ground_truth)}. "
            "Train a detector, or leave such images out.",
            reason="box-count",
        )


LOCALIZATION = Task.define(
    "localization",
    TaskFields(
        summary="one box per image; one box",
        ground_truth="one-box",
        min_labels=0,
        primary_metric="mean_iou",
        validation_metrics=(
            "mean_iou",
            "iou_50",
            "iou_75",
            "relative_accuracy",
            "error_x",
            "error_y",
            "error_width",
            "error_height",
        ),
        leading_metrics=("iou_50", "iou_75", "relative_accuracy"),
        summary_metrics=("mean_iou", "iou_50", "iou_75"),
        comparison_metrics=("mean_iou", "iou_50", "iou_75"),
        losses=("mse", "smooth-l1", "giou"),
        counted="objects",
        default_format="coco",
        hub_tag="object-detection",
        decision_rule="every image has one",
        hooks={
            "convert": convert,
            "synthesize": synthesize,
            "synthetic_labels": synthetic_labels,
            "describe": describe,
            "check_sample": check_sample,
            "target_encoder": "blemish.training.targets:one_box_encoder",
            "validate": "blemish.training.validation:measure_box",
            "report": "blemish.evaluation.localization_report:score_localization",
            "decision_differences": "blemish.evaluation.decision_differences:box_differences",
            "decision_error": "blemish.evaluation.decision_differences:place_error",
        },
    ),
    module=__name__,
)
