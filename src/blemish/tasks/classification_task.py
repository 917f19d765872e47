"""Classification: exactly one label per image."""

from __future__ import annotations

import numpy as np

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import WrongTask
from blemish.structures import GroundTruth, Labels, Prediction
from blemish.task import Task, TaskFields


def convert(ground_truth: GroundTruth, where: str) -> GroundTruth:
    """Return the ground truth with the one label that all its objects share.

    Args:
        ground_truth: of another task.
        where: the sample, for the error.

    Raises:
        WrongTask: the image has no label, or several.
    """
    present = np.unique(ground_truth.label_index)
    if present.size != 1:
        raise WrongTask(
            f"{where}: classification takes exactly one label per image, got {present.size}. "
            "Use task=multilabel, or leave this image out.",
            reason="label-count",
        )
    return GroundTruth(
        task=CLASSIFICATION, labels=ground_truth.labels, label_index=present, size_hw=ground_truth.size_hw
    )


def synthesize(
    label_index: IntArray,
    boxes_xyxy: FloatArray,
    masks: tuple[Mask, ...],
    labels: Labels,
    size_hw: tuple[int, int],
) -> GroundTruth:
    """Return the label of the first drawn object, or the label of clean images, which is label 0.

    Args:
        label_index: (n,) int64 among the damage labels, without the label of clean images.
        boxes_xyxy: (n, 4) float64 pixels; not used.
        masks: n masks; not used.
        labels: the label of clean images, then those of the damage.
        size_hw: height and width of the image in pixels.
    """
    index = label_index[:1] + 1 if label_index.size else np.zeros(1, np.int64)
    return GroundTruth(task=CLASSIFICATION, labels=labels, label_index=index, size_hw=size_hw)


def synthetic_labels(damage: Labels, clean: tuple[str, str]) -> Labels:
    """Return the labels of a synthetic data set: that of clean images first.

    Args:
        damage: the labels of the damage.
        clean: name and display name of the label of images without damage.
    """
    return Labels((clean[0], *damage.names), (clean[1], *damage.display_names))


def describe(prediction: Prediction) -> str:
    """Return the decided label with its score, such as "Crushed 91.2%"."""
    return f"{prediction.labels.display_names[prediction.label_index[0]]} {prediction.scores[0]:.1%}"


CLASSIFICATION = Task.define(
    "classification",
    TaskFields(
        summary="one label per image; a probability for each label (softmax)",
        ground_truth="one-label",
        min_labels=2,
        primary_metric="macro_f1",
        validation_metrics=(
            "accuracy",
            "macro_f1",
            "weighted_f1",
            "macro_ap",
            "log_loss",
            "calibration_error",
        ),
        leading_metrics=("accuracy", "macro_auroc", "macro_ap", "log_loss", "calibration_error"),
        summary_metrics=("macro_f1", "accuracy", "macro_auroc", "log_loss", "calibration_error", "ece"),
        comparison_metrics=("macro_f1", "accuracy", "macro_auroc"),
        label_metric="f1",
        losses=("cross-entropy", "focal"),
        counted="images",
        default_format="csv",
        hub_tag="image-classification",
        decision_rule="the label with the highest score",
        hooks={
            "convert": convert,
            "synthesize": synthesize,
            "synthetic_labels": synthetic_labels,
            "describe": describe,
            "target_encoder": "blemish.training.targets:label_shares_encoder",
            "validate": "blemish.training.validation:measure_scores",
            "abstention": "blemish.evaluation.abstention_calibration:collect_label_scores",
            "report": "blemish.evaluation.image_level_report:score_image_level",
            "decision_differences": "blemish.evaluation.decision_differences:label_differences",
            "decision_error": "blemish.evaluation.decision_differences:logit_error",
        },
    ),
    module=__name__,
)
