"""Multilabel: any number of labels per image, each decided on its own."""

from __future__ import annotations

import numpy as np

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.structures import GroundTruth, Labels, Prediction
from blemish.task import Task, TaskFields


def convert(ground_truth: GroundTruth, where: str) -> GroundTruth:
    """Return the set of labels that occur in the image.

    Args:
        ground_truth: of another task.
        where: the sample; not used, since every ground truth can be read this way.
    """
    return GroundTruth(
        task=MULTILABEL,
        labels=ground_truth.labels,
        label_index=np.unique(ground_truth.label_index),
        size_hw=ground_truth.size_hw,
    )


def synthesize(
    label_index: IntArray,
    boxes_xyxy: FloatArray,
    masks: tuple[Mask, ...],
    labels: Labels,
    size_hw: tuple[int, int],
) -> GroundTruth:
    """Return the set of labels of the drawn objects.

    Args:
        label_index: (n,) int64 among `labels`.
        boxes_xyxy: (n, 4) float64 pixels; not used.
        masks: n masks; not used.
        labels: of the damage.
        size_hw: height and width of the image in pixels.
    """
    return GroundTruth(task=MULTILABEL, labels=labels, label_index=np.unique(label_index), size_hw=size_hw)


def synthetic_labels(damage: Labels, clean: tuple[str, str]) -> Labels:
    """Return the labels of a synthetic data set: those of the damage."""
    return damage


def describe(prediction: Prediction) -> str:
    """Return the positive labels with their scores, then the negative ones."""
    display_names, scores = prediction.labels.display_names, prediction.label_scores
    is_positive = prediction.decide()
    order = (-scores).argsort()
    positive = ", ".join(f"{display_names[i]} {scores[i]:.1%}" for i in order if is_positive[i])
    negative = ", ".join(f"{display_names[i]} {scores[i]:.1%}" for i in order if not is_positive[i])
    return (positive or "nothing found") + (f" (not: {negative})" if negative else "")


MULTILABEL = Task.define(
    "multilabel",
    TaskFields(
        summary="any number of labels per image; an independent probability for each label (sigmoid)",
        ground_truth="labels",
        primary_metric="macro_f1",
        validation_metrics=(
            "exact_match",
            "macro_f1",
            "weighted_f1",
            "macro_ap",
            "log_loss",
            "calibration_error",
        ),
        leading_metrics=("exact_match", "macro_auroc", "macro_ap", "log_loss", "calibration_error"),
        summary_metrics=("macro_f1", "macro_ap", "macro_auroc", "exact_match", "calibration_error"),
        comparison_metrics=("macro_f1", "exact_match", "macro_auroc"),
        label_metric="f1",
        losses=("bce", "focal"),
        counted="images",
        default_format="csv",
        hub_tag="image-classification",
        hooks={
            "convert": convert,
            "synthesize": synthesize,
            "synthetic_labels": synthetic_labels,
            "describe": describe,
            "target_encoder": "blemish.training.targets:label_shares_encoder",
            "validate": "blemish.training.validation:measure_scores",
            "abstention": "blemish.evaluation.abstention_calibration:collect_label_scores",
            "report": "blemish.evaluation.image_level_report:score_image_level",
            "decision_differences": "blemish.evaluation.decision_differences:threshold_differences",
            "decision_error": "blemish.evaluation.decision_differences:logit_error",
        },
    ),
    module=__name__,
)
