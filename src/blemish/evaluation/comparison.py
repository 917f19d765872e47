"""`compare`: several model files on the same images: metrics, speed, size and licenses."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.data.coordinates import RECTANGLE
from blemish.data.polygon_masks import PolygonMask
from blemish.errors import BadInput, WrongTask
from blemish.evaluation.evaluator import choose_split, evaluate, open_for, predict_paths
from blemish.evaluation.label_match import match_labels
from blemish.evaluation.metric_names import format_value, metric_display_name
from blemish.evaluation.report import SCHEMA_VERSION, MetricValue, Report
from blemish.imaging import LIMITS, Limits
from blemish.metrics import metric_direction
from blemish.structures import Dataset, GroundTruth, Labels, Task

if TYPE_CHECKING:
    from blemish.inference import Predictor
    from blemish.inference.tiles import Tiling
    from blemish.model_file import ModelFile

TIMED_IMAGES = 20
WARM_UP_IMAGES = 2


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """The results of one model file.

    Attributes:
        name: the name of the training run, or of the file.
        path: the model file.
        report: its evaluation.
        metrics: the compared metrics by name; of boxes if models with and without masks are compared.
        labels: the compared metric of each label.
        milliseconds: the median time per image, one image after another, from the file to the prediction.
        bytes: the size of the file.
        licenses: the licenses of weights, data and code that the file states.
    """

    name: str
    path: Path
    report: Report
    metrics: Mapping[str, MetricValue]
    labels: Mapping[str, MetricValue]
    milliseconds: float
    bytes: int
    licenses: Mapping[str, str]

    @property
    def short_licenses(self) -> tuple[str, str]:
        """The names of the licenses of code and weights, without their conditions."""
        code, weights = (self.licenses.get(kind, "") for kind in ("code", "weights"))
        short = "; ".join(part.partition(":")[0].strip() for part in code.split(";"))
        return short or "not stated", weights or "not stated"

    def to_dict(self) -> dict[str, Any]:
        """Return the results as `comparison.json` contains them."""
        return {
            "name": self.name,
            "path": self.path.as_posix(),
            "task": str(self.report.task),
            "architecture": self.report.model.get("architecture"),
            "model_digest": self.report.model.get("model_digest"),
            "backend": self.report.model.get("backend"),
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "labels": {name: metric.to_dict() for name, metric in self.labels.items()},
            "milliseconds": self.milliseconds,
            "bytes": self.bytes,
            "licenses": dict(self.licenses),
            "warnings": [warning.to_dict() for warning in self.report.warnings],
            "unreadable": len(self.report.unreadable),
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """The results of several model files, the best first.

    Attributes:
        primary_metric: the name of the metric that orders the models.
        models: one per model file.
        data: facts about the data set.
        images: the number of evaluated images.
        by_boxes: whether models with masks are compared by their boxes.
    """

    primary_metric: str
    models: tuple[ComparedModel, ...]
    data: Mapping[str, Any]
    images: int
    by_boxes: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label that any of the models was evaluated on."""
        return tuple(dict.fromkeys(name for model in self.models for name in model.labels))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as `comparison.json` contains it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "primary_metric": self.primary_metric,
            "images": self.images,
            "by_boxes": self.by_boxes,
            "data": dict(self.data),
            "models": [model.to_dict() for model in self.models],
        }

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        names = tuple(self.models[0].metrics)
        head = ["model", *map(metric_display_name, names), *self.label_names]
        head += ["ms", "MB", "code license", "weights license"]
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for model in self.models:
            metrics = [model.metrics[n] for n in names]
            metrics += [model.labels.get(n, MetricValue(None)) for n in self.label_names]
            cells = [model.name, *(format_value(metric.value) for metric in metrics)]
            cells += [f"{model.milliseconds:.1f}", f"{model.bytes / 1e6:.1f}", *model.short_licenses]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(line.replace("\n", " ") for line in lines) + "\n"


def compare(
    models: Sequence[Path | str],
    data: Dataset | Path | str,
    *,
    split: str | None = None,
    label_map: Mapping[str, str] | None = None,
    format: str | None = None,  # noqa: A002 - named as on the command line
    images: Path | str | None = None,
    batch_size: int | None = None,
    intervals: bool = True,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    tiling: Tiling | None = None,
    limits: Limits = LIMITS,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Evaluate several model files on the same images.

    Args:
        models: model files, or their `hf://` addresses, of one task. Detection and segmentation models can
            be compared with each other, by their boxes.
        data: a data set or its path.
        split: the split to evaluate, or "all"; see `evaluate`.
        label_map: the data set's label names to the models'; each model takes the pairs that it has.
        format: the format of the data set [default: detected].
        images: the folder of the images [default: next to the labels].
        batch_size: the number of images per forward pass.
        intervals: whether to compute 95 % bootstrap intervals.
        backend: what runs the models; see `blemish.load`.
        device: where the models run; see `blemish.load`.
        threads: the number of threads; see `blemish.load`.
        tiling: how large images are divided into tiles; the time per image is then that of all its tiles.
        limits: the largest images that are decoded.
        progress: a function that is called with a model's name, the number of finished images and the number
            of all images.

    Raises:
        BadInput: there is no model, no image could be evaluated, or a model does not have a label of the data
            set; all model files are checked before the first one is run.
        WrongTask: models of these tasks cannot be compared.
    """
    from blemish import inference
    from blemish.hub import local_file
    from blemish.model_file import read_model_file

    files = [read_model_file(local_file(path)) for path in models]
    if not files:
        raise BadInput("expected at least one model file to compare, got none", reason="no-model")
    tasks = {file.contract.task for file in files}
    if len(tasks) > 1 and not all(task.has_objects for task in tasks):
        named = ", ".join(f"{file.path} ({file.contract.task})" for file in files)
        raise WrongTask(f"expected models of one task, got {named}", reason="several-tasks")
    by_boxes = len(tasks) > 1
    dataset = data if isinstance(data, Dataset) else _open(data, tasks, format, images)
    if by_boxes and not dataset.task.has_masks:
        dataset = _with_box_masks(dataset)
    chosen, split = choose_split(dataset, split)
    mappings = [_own_pairs(label_map, file.contract.to_labels(), dataset.labels) for file in files]
    for file, mapping in zip(files, mappings, strict=True):
        try:
            match_labels(file.contract.to_labels(), dataset.labels, mapping)
        except BadInput as error:
            raise BadInput(f"{file.path}: {error}", reason="label-not-in-model") from None
    compared = []
    for file, mapping, name in zip(files, mappings, distinct_names(files), strict=True):
        predictor = inference.load(file.path, backend=backend, device=device, threads=threads, limits=limits)
        report = evaluate(
            predictor,
            dataset,
            split=split or "all",
            label_map=mapping,
            batch_size=batch_size,
            progress=None if progress is None else lambda d, n, name=name: progress(name, d, n),  # type: ignore[misc]
            intervals=intervals,
            thumbnails=False,
            tiling=tiling,
        )
        unreadable = {identity for identity, _ in report.unreadable}
        paths = [s.path for s in chosen if s.ground_truth is not None and s.id not in unreadable]
        milliseconds = latency(predictor, paths[:TIMED_IMAGES], tiling)
        compared.append(_compared(name, file.path, report, milliseconds, predictor, by_boxes=by_boxes))
        del predictor  # one network at a time in memory
        gc.collect()
    primary_metric = files[0].contract.task.primary_metric
    compared.sort(key=lambda model: _rank(model.metrics[primary_metric], primary_metric))
    first = compared[0].report
    return Comparison(primary_metric, tuple(compared), first.data, first.images, by_boxes)


def distinct_names(files: Sequence[ModelFile]) -> list[str]:
    """Return a name for each model file: of its run, and for equal names with what differs.

    That is the precision, the folder, the name of the file, or else its path.
    """
    names = [file.contract.name or file.path.stem for file in files]
    paths = [file.path.resolve() for file in files]
    for facts in (
        [_precision(file) for file in files],
        [path.parent.name for path in paths],
        [path.name for path in paths],
        [file.path.as_posix() for file in files],
    ):
        of_name: dict[str, set[str]] = {}
        for name, fact in zip(names, facts, strict=True):
            of_name.setdefault(name, set()).add(fact)
        names = [f"{n} ({f})" if len(of_name[n]) > 1 else n for n, f in zip(names, facts, strict=True)]
    return names


def _precision(file: ModelFile) -> str:
    certificate = file.contract.certificate
    return certificate.precision if certificate is not None else "not certified"


def latency(predictor: Predictor, paths: Sequence[Path], tiling: Tiling | None = None) -> float:
    """Return the median milliseconds per image, one image after another, from the file to the prediction."""
    for path in paths[:WARM_UP_IMAGES]:
        predictor.predict(path)
    seconds = [outcome.timing.total for path in paths for outcome in predict_paths(predictor, [path], tiling)]
    return 1000 * statistics.median(seconds)


def _rank(metric: MetricValue, name: str) -> float:
    """Return a sort key that is smaller for a better value; an undefined value is the worst."""
    if metric.value is None:
        return math.inf
    return -metric.value if metric_direction(name) == "max" else metric.value


def _compared(
    name: str, path: Path, report: Report, milliseconds: float, predictor: Predictor, *, by_boxes: bool
) -> ComparedModel:
    prefix = "box_" if by_boxes and report.task.has_masks else ""
    names = [n for n in report.task.fields.comparison_metrics if not (by_boxes and n == "f1")]
    label_metric = report.task.fields.label_metric
    labels = {}
    if label_metric:
        labels = {row.label: row.metrics[prefix + label_metric] for row in report.label_rows}
    return ComparedModel(
        name=name,
        path=path,
        report=report,
        metrics={n: report.metrics[prefix + n] for n in names},
        labels=labels,
        milliseconds=milliseconds,
        bytes=path.stat().st_size,
        licenses=predictor.contract.licenses.model_dump(),
    )


def _open(data: Path | str, tasks: set[Task], format: str | None, images: Path | str | None) -> Dataset:  # noqa: A002
    """Open a data set that can evaluate all of `tasks`; to compare by boxes, boxes are sufficient."""
    if len(tasks) == 1:
        return open_for(data, next(iter(tasks)), format, images)
    richest_first = sorted(tasks, key=lambda task: not task.has_masks)
    try:
        return open_for(data, richest_first[0], format, images)
    except WrongTask:
        return open_for(data, richest_first[-1], format, images)


def _with_box_masks(dataset: Dataset) -> Dataset:
    """Return a data set whose masks are its boxes, to compare models with masks by their boxes."""

    def add_masks(ground_truth: GroundTruth) -> GroundTruth:
        assert ground_truth.boxes_xyxy is not None  # noqa: S101  (the task has boxes)
        assert ground_truth.size_hw is not None  # noqa: S101  (the task has image sizes)
        size_hw = ground_truth.size_hw
        corners = ground_truth.boxes_xyxy[:, RECTANGLE].reshape(-1, 4, 2)
        masks = tuple(PolygonMask(size_hw, (corner,), from_box=True) for corner in corners)
        return replace(ground_truth, task=Task.SEGMENTATION, masks=masks)

    samples = tuple(
        s if s.ground_truth is None else replace(s, ground_truth=add_masks(s.ground_truth))
        for s in dataset.samples
    )
    return replace(dataset, task=Task.SEGMENTATION, samples=samples)


def _own_pairs(label_map: Mapping[str, str] | None, model: Labels, data: Labels) -> dict[str, str]:
    """Return the pairs of a label map whose names this model and the data set have."""
    known = {*model.names, *data.names, ""}
    return {a: b for a, b in (label_map or {}).items() if a in known and b in known}
