"""How the report's figures are called and what they mean, in the words people read."""

from __future__ import annotations

from blemish.evaluation.report import Figure, Report
from blemish.vocabulary import Task

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
    "accuracy": ("Accuracy", "the share of photographs whose label is right"),
    "exact_match": ("Exact match", "the share of photographs all of whose labels are right"),
    "macro_ap": ("Mean AP", "average precision of each label, averaged: how well scores rank"),
    "macro_auroc": ("Mean AUROC", "the chance that a true photograph scores above an untrue one"),
    "log_loss": ("Log loss", "mean surprise at the truth, in nats; lower is better"),
    "brier": ("Brier score", "mean squared error of the probabilities; lower is better"),
    "calibration_error": (
        "Calibration error",
        "mean distance of score and share that is right; lower is better",
    ),
    "mean_iou": ("Mean IoU", "overlap of the predicted with the true box"),
    "iou_50": ("IoU ≥ .50", "share of photographs whose box overlaps by half or more"),
    "iou_75": ("IoU ≥ .75", "share of photographs whose box overlaps by three quarters or more"),
    "error_x": ("Error in x", "mean absolute error of the left edge, pixels"),
    "error_y": ("Error in y", "mean absolute error of the upper edge, pixels"),
    "error_width": ("Error in width", "mean absolute error, pixels"),
    "error_height": ("Error in height", "mean absolute error, pixels"),
    "relative_accuracy": ("Relative accuracy", "1 less the mean of error / truth over all coordinates"),
    "precision": ("Precision", "of what was said, the share that is true"),
    "recall": ("Recall", "of what is true, the share that was said"),
    "f1": ("F1", "the harmonic mean of precision and recall"),
    "ap": ("AP", "average precision"),
    "auroc": ("AUROC", "the chance that a true photograph scores above an untrue one"),
}
LEADING: dict[Task, tuple[str, ...]] = {
    Task.CLASSIFICATION: ("accuracy", "macro_auroc", "macro_ap", "log_loss", "calibration_error"),
    Task.MULTILABEL: ("exact_match", "macro_auroc", "macro_ap", "log_loss", "calibration_error"),
    Task.LOCALIZATION: ("iou_50", "iou_75", "relative_accuracy"),
    Task.DETECTION: ("ap50", "ap75", "precision", "recall", "f1"),
    Task.SEGMENTATION: ("ap50", "ap75", "box_ap", "precision", "recall", "f1"),
}
DASH = "\N{EN DASH}"
PIXELS = frozenset({"error_x", "error_y", "error_width", "error_height"})


def title_of(name: str) -> str:
    """What people read for a figure's name."""
    return FIGURES.get(name, (name.replace("_", " ").capitalize(), ""))[0]


def meaning_of(name: str) -> str:
    """One line on what a figure says; empty for one that is not known."""
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


def interval(figure: Figure, name: str = "") -> str:
    """A figure's interval as people read it; empty where there is none.

    Example:
        >>> interval(Figure(0.8, 0.71, 0.88))
        '0.710 – 0.880'
    """
    if figure.low is None or figure.high is None:
        return ""
    return f"{number(figure.low, name)} {DASH} {number(figure.high, name)}"


def leading_figures(report: Report) -> list[str]:
    """The names of the figures that stand beside the headline."""
    return [name for name in LEADING[report.task] if name in report.figures]
