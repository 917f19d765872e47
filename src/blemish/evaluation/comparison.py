"""Several model files on the same images: how good, how fast, how large, under which licence."""

from __future__ import annotations

import gc
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.data.coordinates import RECTANGLE
from blemish.data.polygon_masks import PolygonMask
from blemish.errors import BadInput, WrongTask
from blemish.evaluation.evaluator import choose_split, evaluate, looked_at, open_for
from blemish.evaluation.label_mapping import match_labels
from blemish.evaluation.report import MetricValue, Report
from blemish.imaging import LIMITS, Limits
from blemish.model_file import write_atomically
from blemish.structures import Dataset, GroundTruth, Labels, Task

if TYPE_CHECKING:
    from blemish.inference import Predictor
    from blemish.inference.tiles import Tiling
    from blemish.model_file import ModelFile

TIMED = 20
WARM_UP = 2


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """One model file's line.

    Attributes:
        name: of the run, or of the file.
        path: of the model file.
        report: what its evaluation found.
        figures: what is compared, by name; of boxes where a model of masks stands beside one of boxes.
        labels: for each label the figure that is compared.
        milliseconds: median for one image after another, from file to prediction.
        bytes: size of the file.
        licences: of weights, data and code, as the file states them.
    """

    name: str
    path: Path
    report: Report
    figures: Mapping[str, MetricValue]
    labels: Mapping[str, MetricValue]
    milliseconds: float
    bytes: int
    licences: Mapping[str, str]

    @property
    def short_licences(self) -> tuple[str, str]:
        """Of the code and of the weights, without what they ask for."""
        code, weights = (self.licences.get(kind, "") for kind in ("code", "weights"))
        short = "; ".join(part.partition(":")[0].strip() for part in code.split(";"))
        return short or "not stated", weights or "not stated"

    def to_dict(self) -> dict[str, Any]:
        """One word a thing."""
        return {
            "name": self.name,
            "path": self.path.as_posix(),
            "task": str(self.report.task),
            "architecture": self.report.model.get("architecture"),
            "model_digest": self.report.model.get("model_digest"),
            "backend": self.report.model.get("backend"),
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "labels": {name: figure.to_dict() for name, figure in self.labels.items()},
            "milliseconds": self.milliseconds,
            "bytes": self.bytes,
            "licences": dict(self.licences),
            "stamps": [{"kind": stamp.kind, "text": stamp.text} for stamp in self.report.stamps],
            "broken": len(self.report.broken),
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """Model files side by side, the best first.

    Attributes:
        headline: the figure they are ordered by.
        contenders: one a model file.
        data: facts of the data set.
        images: how many were scored.
        of_boxes: whether models of masks are compared by their boxes.
    """

    headline: str
    contenders: tuple[ComparedModel, ...]
    data: Mapping[str, Any]
    images: int
    of_boxes: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """Every label that any of them was scored on, in the order they come."""
        return tuple(dict.fromkeys(name for c in self.contenders for name in c.labels))

    def to_dict(self) -> dict[str, Any]:
        """One word a thing."""
        return {
            "headline": self.headline,
            "images": self.images,
            "of_boxes": self.of_boxes,
            "data": dict(self.data),
            "models": [contender.to_dict() for contender in self.contenders],
        }

    def to_markdown(self) -> str:
        """The table as a page of documentation takes it."""
        from blemish.evaluation.metric_names import display_name_of, number

        names = tuple(self.contenders[0].figures)
        head = [
            "model",
            *(display_name_of(n) for n in names),
            *self.label_names,
            "ms",
            "MB",
            "code's licence",
        ]
        head.append("weights' licence")
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for c in self.contenders:
            found = [
                *(c.figures[n] for n in names),
                *(c.labels.get(n, MetricValue(None)) for n in self.label_names),
            ]
            cells = [
                c.name,
                *(number(f.value) for f in found),
                f"{c.milliseconds:.1f}",
                f"{c.bytes / 1e6:.1f}",
            ]
            lines.append("| " + " | ".join([*cells, *c.short_licences]) + " |")
        return "\n".join(line.replace("\n", " ") for line in lines) + "\n"

    def write(self, folder: Path | str) -> tuple[Path, ...]:
        """Write `comparison.json`, `comparison.md` and the plot `comparison.svg`.

        Raises:
            StorageFull: one could not be written.
        """
        from blemish.evaluation.comparison_plot import speed_plot

        folder = Path(folder)
        texts = {
            "comparison.json": json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False),
            "comparison.md": self.to_markdown(),
            "comparison.svg": speed_plot(self),
        }
        for name, text in texts.items():
            write_atomically(folder / name, text.encode())
        return tuple(folder / name for name in texts)


def compare(
    models: Sequence[Path | str],
    data: Dataset | Path | str,
    *,
    split: str | None = None,
    map_labels: Mapping[str, str] | None = None,
    format: str | None = None,  # noqa: A002 - the word people type
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
        models: model files, or their `hf://` addresses, of one task; detection and segmentation may stand
            side by side, and are then compared by their boxes.
        data: a data set, or the path of one.
        split: see `evaluate`.
        map_labels: likewise; names that a model does not know are passed over.
        format: likewise.
        images: likewise.
        batch_size: likewise.
        intervals: likewise.
        backend: likewise.
        device: likewise.
        threads: likewise.
        tiling: likewise; then the time of an image is that of all its tiles.
        limits: what images are refused.
        progress: called with a model's name, how many images are done, and how many there are.

    Raises:
        BadInput: no model, or nothing that could be scored.
        WrongTask: models of tasks that cannot be compared.
    """
    from blemish import inference
    from blemish.hub import local_file
    from blemish.model_file import read_model_file

    files = [read_model_file(local_file(path)) for path in models]
    if not files:
        raise BadInput("give at least one model file to compare")
    tasks = {file.contract.task for file in files}
    if len(tasks) > 1 and not all(task.has_objects for task in tasks):
        named = ", ".join(f"{file.path} ({file.contract.task})" for file in files)
        raise WrongTask(f"models of different tasks cannot be compared: {named}")
    of_boxes = len(tasks) > 1
    dataset = data if isinstance(data, Dataset) else _open(data, tasks, format, images)
    if of_boxes and not dataset.task.has_masks:
        dataset = _outlined(dataset)
    chosen, split = choose_split(dataset, split)
    mappings = [_understood(map_labels, file.contract.label_vocabulary(), dataset.labels) for file in files]
    for file, mapping in zip(files, mappings, strict=True):  # all before the first is looked at
        try:
            match_labels(file.contract.label_vocabulary(), dataset.labels, mapping)
        except BadInput as error:
            raise BadInput(f"{file.path}: {error}") from None
    contenders = []
    for file, mapping, name in zip(files, mappings, distinct_names(files), strict=True):
        predictor = inference.load(file.path, backend=backend, device=device, threads=threads, limits=limits)
        report = evaluate(
            predictor,
            dataset,
            split=split or "all",
            map_labels=mapping,
            batch_size=batch_size,
            progress=None if progress is None else lambda d, n, name=name: progress(name, d, n),  # type: ignore[misc]
            intervals=intervals,
            pictures=False,
            tiling=tiling,
        )
        broken = {identity for identity, _ in report.broken}
        paths = [s.path for s in chosen if s.ground_truth is not None and s.id not in broken][:TIMED]
        milliseconds = latency(predictor, paths, tiling)
        contenders.append(_contender(name, file.path, report, milliseconds, predictor, of_boxes=of_boxes))
        del predictor  # one network at a time in memory
        gc.collect()
    headline = files[0].contract.task.primary_metric
    contenders.sort(key=lambda c: -(c.figures[headline].value or 0.0))
    first = contenders[0].report
    return Comparison(headline, tuple(contenders), first.data, first.images, of_boxes)


def distinct_names(files: Sequence[ModelFile]) -> list[str]:
    """A name for each model file: of its run, and where two bear the same, with its folder or its path."""
    names = [file.contract.name or file.path.stem for file in files]
    folders = [file.path.resolve().parent.name for file in files]
    for places in (folders, [file.path.as_posix() for file in files]):
        twice = {n for n in names if names.count(n) > 1}
        names = [f"{n} ({p})" if n in twice else n for n, p in zip(names, places, strict=True)]
    return names


def latency(predictor: Predictor, paths: Sequence[Path], tiling: Tiling | None = None) -> float:
    """Median milliseconds for one image after another, from file to prediction."""
    for path in paths[:WARM_UP]:
        predictor.predict(path)
    seconds = [outcome.timing.total for path in paths for outcome in looked_at(predictor, [path], tiling)]
    return 1000 * statistics.median(seconds)


def _contender(
    name: str, path: Path, report: Report, milliseconds: float, predictor: Predictor, *, of_boxes: bool
) -> ComparedModel:
    prefix = "box_" if of_boxes and report.task.has_masks else ""
    names = [n for n in report.task.fields.comparison_metrics if not (of_boxes and n == "f1")]
    of_label = report.task.fields.label_metric
    labels = {}
    if of_label:
        labels = {row.label: row.figures[prefix + of_label] for row in report.label_rows}
    return ComparedModel(
        name=name,
        path=path,
        report=report,
        figures={n: report.figures[prefix + n] for n in names},
        labels=labels,
        milliseconds=milliseconds,
        bytes=path.stat().st_size,
        licences=predictor.contract.licences.model_dump(),
    )


def _open(data: Path | str, tasks: set[Task], format: str | None, images: Path | str | None) -> Dataset:  # noqa: A002
    """Data that serve all of `tasks`; where models are compared by their boxes, boxes suffice."""
    if len(tasks) == 1:
        return open_for(data, next(iter(tasks)), format, images)
    richest_first = sorted(tasks, key=lambda task: not task.has_masks)
    try:
        return open_for(data, richest_first[0], format, images)
    except WrongTask:
        return open_for(data, richest_first[-1], format, images)


def _outlined(dataset: Dataset) -> Dataset:
    """Boxes as outlines, so that models of masks can be scored on them, by their boxes alone."""

    def drawn(ground_truth: GroundTruth) -> GroundTruth:
        assert ground_truth.boxes_xyxy is not None and ground_truth.size_hw is not None  # noqa: S101  (the task has both)
        size_hw = ground_truth.size_hw
        corners = ground_truth.boxes_xyxy[:, RECTANGLE].reshape(-1, 4, 2)
        masks = tuple(PolygonMask(size_hw, (corner,), from_box=True) for corner in corners)
        return replace(ground_truth, task=Task.SEGMENTATION, masks=masks)

    samples = tuple(
        s if s.ground_truth is None else replace(s, ground_truth=drawn(s.ground_truth))
        for s in dataset.samples
    )
    return replace(dataset, task=Task.SEGMENTATION, samples=samples)


def _understood(mapping: Mapping[str, str] | None, model: Labels, data: Labels) -> dict[str, str]:
    """The pairs that this model's labels and the data's take."""
    known = {*model.names, *data.names, ""}
    return {a: b for a, b in (mapping or {}).items() if a in known and b in known}
