"""How the report's figures are called and what they mean, in the words people read."""

from __future__ import annotations

from blemish.evaluation.report import MetricValue, Report

# name in JSON: (what people read, what it says)
FIGURES: dict[str, tuple[str, str]] = {
    "macro_f1": ("Macro F1", "F1 of each label, averaged: a rare label counts as much as a common one"),
    "macro_precision": ("Macro precision", "of what was said, the share that is true, averaged over labels"),
    "macro_recall": ("Macro recall", "of what is true, the share that was said, averaged over labels"),
    "weighted_f1": ("Weighted F1", "F1 of each label, averaged by how often it is true"),
    "weighted_precision": ("Weighted precision", "precision of each label, averaged by how often it is true"),
    "weighted_recall": ("Weighted recall", "recall of each label, averaged by how often it is true"),
    "micro_f1": ("Micro F1", "F1 over all labels counted as one"),
    "micro_precision": ("Micro precision", "precision over all labels counted as one"),
    "micro_recall": ("Micro recall", "recall over all labels counted as one"),
    "accuracy": ("Accuracy", "the share of images whose label is right"),
    "exact_match": ("Exact match", "the share of images all of whose labels are right"),
    "macro_ap": ("Mean AP", "average precision of each label, averaged: how well scores rank"),
    "macro_auroc": ("Mean AUROC", "the chance that a true image scores above an untrue one"),
    "log_loss": ("Log loss", "mean surprise at the truth, in nats; lower is better"),
    "brier": ("Brier score", "mean squared error of the probabilities; lower is better"),
    "calibration_error": (
        "Calibration error",
        "mean distance of score and share that is right; lower is better",
    ),
    "mean_iou": ("Mean IoU", "overlap of the predicted with the true box"),
    "iou_50": ("IoU ≥ .50", "share of images whose box overlaps by half or more"),
    "iou_75": ("IoU ≥ .75", "share of images whose box overlaps by three quarters or more"),
    "error_x": ("Error in x", "mean absolute error of the left edge, pixels"),
    "error_y": ("Error in y", "mean absolute error of the upper edge, pixels"),
    "error_width": ("Error in width", "mean absolute error, pixels"),
    "error_height": ("Error in height", "mean absolute error, pixels"),
    "relative_accuracy": ("Relative accuracy", "1 less the mean of error / truth over all coordinates"),
    "image_precision": (
        "Image precision",
        "of images in which anything is found, those that hold anything",
    ),
    "image_recall": (
        "Image recall",
        "of images that hold anything, those in which anything is found",
    ),
    "image_f1": ("Image F1", "the harmonic mean of the two"),
    "ap50": ("AP50", "average precision at an overlap of .50"),
    "ap75": ("AP75", "average precision at an overlap of .75"),
    "voc_ap50": ("VOC AP50", "area under the curve at an overlap of .50, difficult objects ignored; boxes"),
    "voc07_ap50": ("VOC 2007 AP50", "the mean precision at 11 recalls, difficult objects ignored; boxes"),
    "classification": ("Wrong label", "overlaps a truth of another label by .50"),
    "localization": ("Badly placed", "overlaps a truth of its label by .10 to .50"),
    "both": ("Both", "badly placed, and on a truth of another label"),
    "duplicate": ("Duplicate", "its truth was found by a better one"),
    "background": ("Nothing there", "overlaps nothing by more than .10"),
    "missed": ("Missed", "no detection comes near"),
    "precision": ("Precision", "of what was said, the share that is true"),
    "recall": ("Recall", "of what is true, the share that was said"),
    "f1": ("F1", "the harmonic mean of precision and recall"),
    "ap": ("AP", "average precision; of objects, the mean over overlaps from .50 to .95"),
    "auroc": ("AUROC", "the chance that a true image scores above an untrue one"),
}
DASH = "\N{EN DASH}"
PIXELS = frozenset({"error_x", "error_y", "error_width", "error_height"})


SIZES = {
    "small": "below 32 x 32 pixels",
    "medium": "32 x 32 to 96 x 96 pixels",
    "large": "above 96 x 96 pixels",
}


def display_name_of(name: str) -> str:
    """What people read for a figure's name.

    Example:
        >>> display_name_of("macro_f1"), display_name_of("box_ap_small"), display_name_of("ar_10")
        ('Macro F1', 'Box AP small', 'AR 10')
    """
    if name.startswith("box_"):
        return f"Box {display_name_of(name.removeprefix('box_'))}"
    if name.startswith(("ap_", "ar_")):
        return f"{name[:2].upper()} {name[3:]}"
    return FIGURES.get(name, (name.replace("_", " ").capitalize(), ""))[0]


def meaning_of(name: str) -> str:
    """One line on what a figure says; empty for one that is not known."""
    kind, _, rest = name.removeprefix("box_").partition("_")
    of = "boxes: " if name.startswith("box_") else ""
    if kind == "ap" and rest in SIZES:
        return f"{of}average precision of objects {SIZES[rest]}"
    if kind == "ar" and rest in SIZES:
        return f"{of}average recall of objects {SIZES[rest]}"
    if kind == "ar":
        return f"{of}average recall with at most {rest} detections an image and label"
    if of:
        return of + meaning_of(name.removeprefix("box_"))
    return FIGURES.get(name, ("", ""))[1]


def number(value: float | None, name: str = "") -> str:
    """A figure as people read it.

    Example:
        >>> number(0.8234), number(None), number(12.34, "error_x")
        ('0.823', '–', '12.3 px')
    """
    if value is None:
        return DASH
    return f"{value:.1f} px" if name in PIXELS else f"{value:.3f}"


def interval(figure: MetricValue, name: str = "") -> str:
    """A figure's interval as people read it; empty where there is none.

    Example:
        >>> interval(MetricValue(0.8, 0.71, 0.88))
        '0.710 – 0.880'
    """
    if figure.low is None or figure.high is None:
        return ""
    return f"{number(figure.low, name)} {DASH} {number(figure.high, name)}"


def leading_figures(report: Report) -> list[str]:
    """The names of the figures that stand beside the headline."""
    return [name for name in report.task.fields.leading_metrics if name in report.figures]
