"""Anomaly detection: a model of good images; one score and a heatmap per image."""

from __future__ import annotations

import numpy as np

from blemish.arrays import FloatArray, IntArray, Mask
from blemish.errors import WrongTask
from blemish.geometry import mask_from_array, mask_to_array
from blemish.structures import GroundTruth, Labels, Prediction, Sample
from blemish.task import Task, TaskFields

LABELS = Labels(("anomaly",), ("Anomaly",))
# names of labels, in lower case and without punctuation, of images that show nothing wrong
GOOD_NAMES = frozenset(
    {"good", "ok", "okay", "normal", "functional", "clean", "undamaged", "intact", "fine", "healthy"}
    | {"nodamage", "nodefect", "defectfree", "nondefective", "negative", "whole", "pass", "passed"}
)


def is_good_name(name: str) -> bool:
    """Return whether a label or a folder of this name contains good images.

    Example:
        >>> is_good_name("No_Defect"), is_good_name("scratch")
        (True, False)
    """
    return "".join(c for c in name.casefold() if c.isalnum()) in GOOD_NAMES


def convert_labels(labels: Labels) -> Labels:
    """Return the one label of the task, whatever the labels of the data are."""
    return LABELS


def convert(ground_truth: GroundTruth, where: str) -> GroundTruth:
    """Return whether the image shows anything but good labels, with the union of its masks if it has masks.

    Args:
        ground_truth: of another task.
        where: the sample, for the error.

    Raises:
        WrongTask: every image has exactly one label, and none of the labels is a name of good images.
    """
    names = ground_truth.labels.names
    if ground_truth.task.has_one_label and not any(map(is_good_name, names)):
        raise WrongTask(
            f"{where}: anomaly needs a label of good images, such as good, normal or ok; got "
            f"{', '.join(names)}. Rename the label of good images.",
            reason="no-good-label",
        )
    rows = [i for i, index in enumerate(ground_truth.label_index) if not _is_good(names, int(index))]
    masks = None
    if ground_truth.masks is not None:
        masks = _union([ground_truth.masks[i] for i in rows], ground_truth.size_hw)
    return make_ground_truth(anomalous=bool(rows), size_hw=ground_truth.size_hw, masks=masks)


def _is_good(names: tuple[str, ...], index: int) -> bool:
    return bool(names) and is_good_name(names[index])


def make_ground_truth(
    *, anomalous: bool, size_hw: tuple[int, int] | None = None, masks: tuple[Mask, ...] | None = None
) -> GroundTruth:
    """Return the ground truth of one image.

    Args:
        anomalous: whether the image shows a defect.
        size_hw: height and width in pixels, if known.
        masks: one mask of all defective pixels; () for a good image; None if there are no masks.
    """
    index = np.zeros(int(anomalous), np.int64)
    if masks is not None and len(masks) != len(index):
        masks = None
    return GroundTruth(task=ANOMALY, labels=LABELS, label_index=index, size_hw=size_hw, masks=masks)


def _union(masks: list[Mask], size_hw: tuple[int, int] | None) -> tuple[Mask, ...]:
    if len(masks) < 2:
        return tuple(masks)
    total = mask_to_array(masks[0])
    for mask in masks[1:]:
        total = total | mask_to_array(mask)
    return (mask_from_array(total),)


def synthesize(
    label_index: IntArray,
    boxes_xyxy: FloatArray,
    masks: tuple[Mask, ...],
    labels: Labels,
    size_hw: tuple[int, int],
) -> GroundTruth:
    """Return whether anything was drawn, with the union of the masks.

    Args:
        label_index: (n,) int64 among the damage labels.
        boxes_xyxy: (n, 4) float64 pixels; not used.
        masks: n masks.
        labels: the one label of the task.
        size_hw: height and width of the image in pixels.
    """
    return make_ground_truth(
        anomalous=bool(label_index.size), size_hw=size_hw, masks=_union(list(masks), size_hw)
    )


def synthetic_labels(damage: Labels, clean: tuple[str, str]) -> Labels:
    """Return the one label of the task."""
    return LABELS


def describe(prediction: Prediction) -> str:
    """Return the decision with its score, such as "anomaly 71.3%" or "good (anomaly 22.1%)"."""
    score = f"{prediction.label_scores[0]:.1%}"
    return f"anomaly {score}" if prediction.decide()[0] else f"good (anomaly {score})"


def check_sample(sample: Sample, where: str) -> None:
    """Accept every image: those without ground truth count as good."""


METRICS = ("auroc", "aupr", "recall_at_1_fpr", "recall_at_5_fpr")

ANOMALY = Task.define(
    "anomaly",
    TaskFields(
        summary="good images only; an anomaly score and a heatmap",
        ground_truth="good-or-not",
        unlabeled_format="good-images",
        primary_metric="auroc",
        validation_metrics=METRICS,
        leading_metrics=(*METRICS[1:], "false_positive_rate", "recall", "pixel_auroc", "au_pro"),
        summary_metrics=(*METRICS, "pixel_auroc", "au_pro"),
        comparison_metrics=METRICS,
        label_metric="f1",
        counted="images",
        default_format="good-images",
        hub_tag="image-classification",
        torch_free_architectures={
            "patch-memory": "distance of each patch from a memory of good patches (as PatchCore)",
            "gaussian": "distance of each patch from good ones at its position (as PaDiM); a smaller file",
        },
        hooks={
            "convert": convert,
            "convert_labels": convert_labels,
            "synthesize": synthesize,
            "synthetic_labels": synthetic_labels,
            "describe": describe,
            "check_sample": check_sample,
            "train_command": "blemish.commands.anomaly_command:train_anomaly_command",
            "report": "blemish.evaluation.anomaly_report:score_anomaly",
            "decision_differences": "blemish.evaluation.decision_differences:threshold_differences",
            "decision_error": "blemish.evaluation.decision_differences:logit_error",
        },
    ),
    module=__name__,
)
