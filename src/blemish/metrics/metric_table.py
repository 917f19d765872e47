"""`METRICS`: every metric's name, meaning and direction, declared once; third-party packages add their own.

The report, `--json`, the documentation and training (which needs the direction of the metric it monitors)
read this table. A third-party metric is a spec and a function of ground truths and predictions:

    from blemish.metrics import MetricSpec, register_metric

    @register_metric(
        MetricSpec(
            name="detection_count_error",
            display_name="Detection count error",
            meaning="the mean absolute difference between the numbers of predicted and true objects",
            direction="min",
            tasks=("detection",),
            range=(0.0, None),
            reads=("label_index",),
        )
    )
    def detection_count_error(ground_truths, predictions):
        counts = [abs(len(t) - len(p.filter_scores())) for t, p in zip(ground_truths, predictions)]
        return sum(counts) / len(counts)

Declared as an entry point in the group `blemish.metrics`, the metric appears in the report, in `--json` and
in every validation epoch under its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from blemish.errors import BadInput
from blemish.registry import Registry
from blemish.structures import GroundTruth, Prediction, Task

Direction = Literal["max", "min"]
MetricFunction = Callable[[Sequence[GroundTruth], Sequence[Prediction]], float]

IMAGE_LEVEL = tuple(task for task in Task if task.is_image_level and not task.is_one_class)
ONE_CLASS = tuple(task for task in Task if task.is_one_class)
ONE_BOX = tuple(task for task in Task if task.has_one_box)
OBJECTS = tuple(task for task in Task if task.has_objects)
MASKS = tuple(task for task in Task if task.has_masks)
NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """What one metric is called, what it means, and which value is better.

    Attributes:
        name: the key in JSON and in recipes, such as "macro_f1": lower-case letters, digits and underscores.
        display_name: the name that the report and the tables show, such as "Macro F1".
        meaning: one line in plain words, without a full stop.
        direction: "max" if a larger value is better, "min" if a smaller one is.
        tasks: the tasks whose reports contain the metric for all labels together.
        label_tasks: the tasks whose reports contain it for each label.
        range: the smallest and the largest possible value; None for no bound.
        unit: "px" for pixels, "" for a number without a unit.
        reads: the fields of `Prediction` and `GroundTruth` that it is computed from.
        compute: the function of a third-party metric; None for a built-in metric, which the report computes
            together with others that share its counts.
        bootstrap: whether a third-party metric is recomputed on resampled images for its 95 % interval; set
            it to False if one computation takes longer than a few milliseconds.
    """

    name: str
    display_name: str
    meaning: str
    direction: Direction
    tasks: tuple[str, ...] = ()
    label_tasks: tuple[str, ...] = ()
    range: tuple[float | None, float | None] = (0.0, 1.0)
    unit: Literal["", "px"] = ""
    reads: tuple[str, ...] = ()
    compute: MetricFunction | None = None
    bootstrap: bool = True

    def __post_init__(self) -> None:
        if not NAME_PATTERN.fullmatch(self.name):
            raise BadInput(
                f"metric {self.name!r}: expected a name of lower-case letters, digits and underscores",
                reason="metric-name",
            )
        if self.direction not in ("max", "min"):
            raise BadInput(
                f"metric {self.name!r}: expected the direction 'max' or 'min', got {self.direction!r}",
                reason="metric-direction",
            )
        unknown = [field for field in self.reads if field not in READABLE_FIELDS]
        if unknown:
            raise BadInput(
                f"metric {self.name!r} reads {unknown[0]!r}: expected fields of Prediction or GroundTruth, "
                f"which are {', '.join(sorted(READABLE_FIELDS))}",
                reason="metric-field",
            )


READABLE_FIELDS = frozenset(f.name for kind in (GroundTruth, Prediction) for f in fields(kind))
METRICS: Registry[MetricSpec] = Registry("metrics", noun="metric")


def register_metric(spec: MetricSpec) -> Callable[[MetricFunction], MetricFunction]:
    """Return a decorator that registers a third-party metric and returns its function unchanged.

    Args:
        spec: the metric's name, meaning and direction; its `compute` is set to the decorated function, which
            receives the ground truths and the predictions, one of each per image and in the model's labels,
            and returns one number (NaN if the metric is undefined).

    Raises:
        DuplicateName: another module has registered the name.
    """

    def decorate(function: MetricFunction) -> MetricFunction:
        METRICS.register(spec.name, replace(spec, compute=function), module=function.__module__)
        return function

    return decorate


def metric_direction(name: str) -> Direction:
    """Return "max" if larger values of the metric are better, else "min".

    Raises:
        UnknownName: no metric has this name; the message offers the nearest one.

    Example:
        >>> metric_direction("macro_f1"), metric_direction("error_x"), metric_direction("val_loss")
        ('max', 'min', 'min')
    """
    return METRICS.get(name).direction


def metrics_of_task(task: str) -> tuple[MetricSpec, ...]:
    """Return the metrics that a report of `task` contains for all labels together, built-in ones first."""
    return tuple(spec for _, spec in METRICS.items() if task in spec.tasks)


def custom_metrics(task: str) -> tuple[MetricSpec, ...]:
    """Return the third-party metrics of `task`."""
    return tuple(spec for spec in metrics_of_task(task) if spec.compute is not None)


def _register(*specs: MetricSpec) -> None:
    for spec in specs:
        METRICS.register(spec.name, spec, module=__name__)


def _metric(name: str, display_name: str, meaning: str, tasks: tuple[Task, ...] = (), **more: Any) -> None:
    """Register a built-in metric: a share in [0, 1], larger is better, unless `more` differs."""
    _register(
        MetricSpec(
            name=name,
            display_name=display_name,
            meaning=meaning,
            tasks=tasks,
            **{"direction": "max", **more},
        )
    )


_DECISIONS: dict[str, Any] = {"reads": ("label_index", "label_scores", "thresholds")}
_SCORES: dict[str, Any] = {"reads": ("label_index", "label_scores")}
_BOXES: dict[str, Any] = {"reads": ("boxes_xyxy",)}
_DETECTIONS: dict[str, Any] = {"reads": ("label_index", "scores", "boxes_xyxy", "masks", "crowd", "areas")}
_BOX_DETECTIONS: dict[str, Any] = {"reads": ("label_index", "scores", "boxes_xyxy", "crowd", "areas")}

for _kind, _how in (
    ("macro", "averaged over labels: a rare label counts as much as a common one"),
    ("weighted", "averaged over labels, each weighted by the number of its true images"),
    ("micro", "computed from the counts of all labels together"),
):
    _tasks = (*IMAGE_LEVEL, *(OBJECTS if _kind == "macro" else ()))
    _metric(f"{_kind}_f1", f"{_kind.capitalize()} F1", f"F1, {_how}", _tasks, **_DECISIONS)
    _metric(
        f"{_kind}_precision", f"{_kind.capitalize()} precision", f"precision, {_how}", _tasks, **_DECISIONS
    )
    _metric(f"{_kind}_recall", f"{_kind.capitalize()} recall", f"recall, {_how}", _tasks, **_DECISIONS)
_metric(
    "accuracy",
    "Accuracy",
    "the share of images whose label is predicted correctly",
    tuple(task for task in IMAGE_LEVEL if task.has_one_label),
    **_SCORES,
)
_metric(
    "exact_match",
    "Exact match",
    "the share of images for which every label is decided correctly",
    tuple(task for task in IMAGE_LEVEL if task.has_label_set),
    **_DECISIONS,
)
_metric(
    "macro_ap",
    "Mean AP",
    "average precision, averaged over labels: how well the scores rank images",
    IMAGE_LEVEL,
    **_SCORES,
)
_metric(
    "macro_auroc",
    "Mean AUROC",
    "the probability that a positive image scores higher than a negative one, averaged over labels",
    IMAGE_LEVEL,
    **_SCORES,
)
_metric(
    "log_loss",
    "Log loss",
    "the mean negative log-likelihood of the ground truth, in nats",
    IMAGE_LEVEL,
    direction="min",
    range=(0.0, None),
    **_SCORES,
)
_metric(
    "brier",
    "Brier score",
    "the mean squared error of the probabilities",
    IMAGE_LEVEL,
    direction="min",
    range=(0.0, 2.0),
    **_SCORES,
)
_metric(
    "calibration_error",
    "Calibration error",
    "the mean difference between confidence and accuracy over 15 bins",
    IMAGE_LEVEL,
    direction="min",
    **_SCORES,
)
_metric("mean_iou", "Mean IoU", "the mean IoU of the predicted and the true box", ONE_BOX, **_BOXES)
_metric("iou_50", "IoU ≥ 0.50", "the share of images whose IoU is at least 0.50", ONE_BOX, **_BOXES)
_metric("iou_75", "IoU ≥ 0.75", "the share of images whose IoU is at least 0.75", ONE_BOX, **_BOXES)
for _name, _what in (
    ("x", "the left edge"),
    ("y", "the upper edge"),
    ("width", "the width"),
    ("height", "the height"),
):
    _metric(
        f"error_{_name}",
        f"Error in {_name}",
        f"the mean absolute error of {_what}, in pixels",
        ONE_BOX,
        direction="min",
        range=(0.0, None),
        unit="px",
        **_BOXES,
    )
_metric(
    "relative_accuracy",
    "Relative accuracy",
    "1 minus the mean of absolute error / true value over all coordinates",
    ONE_BOX,
    range=(None, 1.0),
    **_BOXES,
)
_metric(
    "precision",
    "Precision",
    "the share of predictions that are correct: TP / (TP + FP)",
    (*OBJECTS, *ONE_CLASS),
    label_tasks=(*IMAGE_LEVEL, *ONE_CLASS, *OBJECTS),
    **_DETECTIONS,
)
_metric(
    "recall",
    "Recall",
    "the share of the ground truth that was predicted: TP / (TP + FN)",
    (*OBJECTS, *ONE_CLASS),
    label_tasks=(*IMAGE_LEVEL, *ONE_CLASS, *OBJECTS),
    **_DETECTIONS,
)
_metric(
    "f1",
    "F1",
    "the harmonic mean of precision and recall",
    (*OBJECTS, *ONE_CLASS),
    label_tasks=(*IMAGE_LEVEL, *ONE_CLASS, *OBJECTS),
    **_DETECTIONS,
)
_metric(
    "auroc",
    "AUROC",
    "the probability that a positive image scores higher than a negative one",
    ONE_CLASS,
    label_tasks=(*IMAGE_LEVEL, *ONE_CLASS),
    **_SCORES,
)
_metric(
    "aupr",
    "AUPR",
    "average precision: how well the scores rank images with defects first",
    ONE_CLASS,
    **_SCORES,
)
for _percent in (1, 5):
    _metric(
        f"recall_at_{_percent}_fpr",
        f"Recall at {_percent} % FPR",
        f"the share of images with defects that score above all but {_percent} % of the good ones",
        ONE_CLASS,
        **_SCORES,
    )
_metric(
    "false_positive_rate",
    "False positive rate",
    "the share of good images that are decided anomalous at the model's threshold",
    ONE_CLASS,
    direction="min",
    **_DECISIONS,
)
_metric(
    "pixel_auroc",
    "Pixel AUROC",
    "the probability that a pixel of a defect has a higher value in the heatmap than another pixel",
    ONE_CLASS,
    reads=("heatmap", "masks"),
)
_metric(
    "au_pro",
    "AU-PRO",
    "the mean share of each defect that the heatmap finds, up to 30 % false positive pixels",
    ONE_CLASS,
    reads=("heatmap", "masks"),
)
_metric(
    "image_precision",
    "Image precision",
    "the share of images with a detection that contain an object",
    OBJECTS,
    **_DETECTIONS,
)
_metric(
    "image_recall",
    "Image recall",
    "the share of images with an object that have a detection",
    OBJECTS,
    **_DETECTIONS,
)
_metric(
    "image_f1",
    "Image F1",
    "the harmonic mean of image precision and image recall",
    OBJECTS,
    **_DETECTIONS,
)
for _prefix, _of, _object_tasks, _reads in (
    ("", "", OBJECTS, _DETECTIONS),
    ("box_", "boxes: ", MASKS, _BOX_DETECTIONS),
):
    _title = "Box " if _prefix else ""
    _metric(
        f"{_prefix}ap",
        f"{_title}AP",
        "boxes: average precision, the mean over IoU thresholds from 0.50 to 0.95"
        if _prefix
        else "average precision; for objects, the mean over IoU thresholds from 0.50 to 0.95",
        _object_tasks,
        label_tasks=_object_tasks if _prefix else (*IMAGE_LEVEL, *ONE_CLASS, *OBJECTS),
        **_reads,
    )
    for _iou in ("50", "75"):
        _metric(
            f"{_prefix}ap{_iou}",
            f"{_title}AP{_iou}",
            f"{_of}average precision at an IoU threshold of 0.{_iou}",
            _object_tasks,
            label_tasks=OBJECTS if f"{_prefix}ap{_iou}" == "ap50" else (),
            **_reads,
        )
    for _size, _limits in (
        ("small", "below 32 x 32 pixels"),
        ("medium", "from 32 x 32 to 96 x 96 pixels"),
        ("large", "above 96 x 96 pixels"),
    ):
        for _short, _long in (("ap", "average precision"), ("ar", "average recall")):
            _metric(
                f"{_prefix}{_short}_{_size}",
                f"{_title}{_short.upper()} {_size}",
                f"{_of}{_long} of objects {_limits}",
                _object_tasks,
                **_reads,
            )
    for _count in (1, 10, 100):
        _metric(
            f"{_prefix}ar_{_count}",
            f"{_title}AR {_count}",
            f"{_of}average recall with at most {_count} {'detection' if _count == 1 else 'detections'} "
            "per image and label",
            _object_tasks,
            **_reads,
        )
_metric(
    "voc_ap50",
    "VOC AP50",
    "boxes: area under the precision-recall curve at an IoU of 0.50, difficult objects ignored",
    OBJECTS,
    **_BOX_DETECTIONS,
)
_metric(
    "voc07_ap50",
    "VOC 2007 AP50",
    "boxes: mean precision at 11 recalls at an IoU of 0.50, difficult objects ignored",
    OBJECTS,
    **_BOX_DETECTIONS,
)
_metric(
    "train_loss",
    "Training loss",
    "the mean loss over the training images of an epoch",
    direction="min",
    range=(None, None),
)
_metric(
    "val_loss",
    "Validation loss",
    "the mean loss over the validation images",
    direction="min",
    range=(None, None),
)
