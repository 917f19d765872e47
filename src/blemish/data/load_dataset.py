"""Open a data set of any format, for any task that its annotations allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from blemish.data.detect_format import detect_format
from blemish.data.formats import get_format
from blemish.data.read_context import CROWD_VALUES, ReadContext
from blemish.data.split_names import split_named
from blemish.data.tables.cell_values import UNCERTAIN
from blemish.errors import BadDataset, BlemishError, UnknownName
from blemish.structures import Dataset, GroundTruth, Sample, Task

MISSING_VALUES = ("error", "drop", "keep")


def open_dataset(
    path: Path | str,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    images: Path | str | None = None,
    task: Task | str | None = None,
    columns: Mapping[str, str | int] | None = None,
    delimiter: str | None = None,
    box_order: str | None = None,
    uncertain: str = "error",
    crowd: str = "ignore",
    missing: str = "error",
    minimum_labels: int = 2,
) -> Dataset:
    """Read the labels at `path` and the headers of their images.

    Args:
        path: a folder, or a file such as `labels.csv`, `annotations.json` or `data.yaml`.
        format: name of the format, such as "coco"; default: detected.
        images: folder of the images; default: beside the labels.
        task: the task to read the data set for, if it allows several: boxes can be read as `multilabel`.
            Default: the task of its annotations.
        columns: for tables, the column (name, or position from 0) of the roles `path`, `label`, `labels`,
            `group`, `split`, `width`, `height`, `x`, `y`, `w`, `h`, `x1`, `y1`, `x2`, `y2`.
        delimiter: for tables; default: detected.
        box_order: for tables whose header does not name the box columns: `xywh`, `xyhw` or `xyxy`.
        uncertain: for tables, how cells such as -1 and nan in columns of 0 and 1 are read: "error",
            "negative", "positive", or "drop" the line.
        crowd: how objects that are marked as crowd are read: "ignore", as regions that are neither learned
            nor counted, or "objects". CVAT's brush and SAM mark ordinary objects as crowd.
        missing: what to do about labels whose image does not exist: "error", "drop" them, or "keep" those
            for which the format states the image's size.
        minimum_labels: a classification data set with fewer distinct labels is an error.

    Raises:
        BadDataset: the data set cannot be read; the message names the file and the line.
        UnknownName: a format, task or column that does not exist.
        WrongTask: the annotations do not suffice for `task`.

    Example:
        >>> from blemish.data import open_dataset
        >>> open_dataset("nowhere")
        Traceback (most recent call last):
        ...
        blemish.errors.BadDataset: nowhere: no such file or folder; check the path
    """
    if missing not in MISSING_VALUES:
        raise UnknownName("value of missing", missing, MISSING_VALUES)
    if uncertain not in UNCERTAIN:
        raise UnknownName("value of uncertain", uncertain, UNCERTAIN)
    if crowd not in CROWD_VALUES:
        raise UnknownName("value of crowd", crowd, CROWD_VALUES)
    context = ReadContext(
        images=None if images is None else Path(images),
        task=to_task(task),
        columns=columns or {},
        delimiter=delimiter,
        box_order=box_order,
        uncertain=uncertain,
        crowd=crowd,
        missing=missing,
        minimum_labels=minimum_labels,
    )
    return read_dataset(path, format, context)


def read_dataset(path: Path | str, format: str | None, context: ReadContext) -> Dataset:  # noqa: A002
    """Read the data set at `path` and report its faults to `context`.

    Args:
        path: see `open_dataset`.
        format: name of the format, or None to detect it.
        context: the other options of `open_dataset`, and the collector of faults.

    Raises:
        BadDataset: the data set cannot be read, or has a fault and the context is not lenient.
        UnknownName: the format does not exist.
        WrongTask: the annotations do not suffice for the task.
    """
    path = Path(path)
    context.format = format
    chosen = detect_format(path, context) if format is None else get_format(format)
    if not path.exists():
        raise _no_such_file(path)
    try:
        dataset = chosen.implementation.read(path, context)
    except OSError as error:
        raise BadDataset(
            f"cannot be read ({error.strerror})",
            where=error.filename or path,
            remedy="check its permissions",
            reason="unreadable-file",
        ) from error
    except BlemishError:
        raise
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        # An error that the reader did not foresee is still a value that no data set of the format contains.
        raise BadDataset(
            f"cannot be read as {chosen.name}: a label file has an unexpected value or is nested too deeply"
            f" ({error})",
            where=path,
            remedy="check the last edits, or name another format with --format",
            reason="unexpected-value",
        ) from error
    dataset = replace(dataset, format=chosen.name, notes=(*dataset.notes, *context.notes))
    if context.task is not None:
        dataset = as_task(dataset, context.task)
    _check_labels(dataset, path, context)
    return dataset


def as_task(dataset: Dataset, task: Task | str) -> Dataset:
    """Return the same images for another task, if the annotations suffice.

    Masks can be read as boxes, boxes as labels of the image, and several labels as one if every image has
    exactly one.

    Raises:
        WrongTask: the annotations do not suffice for `task`; the message names an image.
    """
    target = to_task(task)
    if target is None or target is dataset.task:
        return dataset
    samples = tuple(_sample_as(sample, target) for sample in dataset.samples)
    labels = dataset.labels
    if "convert_labels" in target.fields.hooks:
        labels = target.hook("convert_labels")(labels)
    return replace(dataset, task=target, labels=labels, samples=samples)


def _sample_as(sample: Sample, target: Task) -> Sample:
    ground_truth = sample.ground_truth
    if ground_truth is None:
        return sample
    where = sample.origin or sample.id
    converted: GroundTruth = target.hook("convert")(ground_truth, where)
    return replace(sample, ground_truth=converted)


def to_task(task: Task | str | None) -> Task | None:
    """Return the task of this name; None stays None.

    Raises:
        UnknownName: the task does not exist; the message offers the nearest name.
    """
    if task is None:
        return None
    try:
        return Task(task)
    except ValueError:
        raise UnknownName("task", str(task), [str(t) for t in Task]) from None


def _no_such_file(path: Path) -> BadDataset:
    return BadDataset("no such file or folder", where=path, remedy="check the path", reason="no-such-file")


def _check_labels(dataset: Dataset, path: Path, context: ReadContext) -> None:
    """Report a classification data set with too few labels, or with labels that are names of splits."""
    if not dataset.task.has_one_label:
        return
    names = {
        name for s in dataset.samples if s.ground_truth is not None for name in s.ground_truth.label_names
    }
    if len(names) < context.minimum_labels:
        only = f"the only label is {next(iter(names))!r}" if names else "no image has a label"
        context.problem(
            "too-few-labels",
            f"expected at least {context.minimum_labels} labels for classification, but {only}",
            path=path,
            remedy="add images of another label",
        )
    chosen = context.format == "folders" or "label" in context.columns
    if names and not chosen and all(split_named(name) for name in names):
        context.problem(
            "labels-are-splits",
            f"expected labels, got the names of splits: {', '.join(sorted(names))}",
            path=path,
            remedy="name the column of the labels with --column label=NAME, or correct the layout",
        )
