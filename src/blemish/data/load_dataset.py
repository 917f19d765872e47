"""Open a data set, whatever its format, as whatever task it can serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from blemish.data.formats import Format, formats_by_rank, get_format
from blemish.data.image_index import ImageIndex
from blemish.data.read_context import ReadContext
from blemish.errors import BadDataset, BlemishError, UnknownName
from blemish.structures import Dataset, GroundTruth, Sample, Task


def open_dataset(
    path: Path | str,
    *,
    format: str | None = None,  # noqa: A002 - the word people type
    images: Path | str | None = None,
    task: Task | str | None = None,
    columns: Mapping[str, str | int] | None = None,
    delimiter: str | None = None,
    box_order: str | None = None,
    missing: str = "error",
    minimum_labels: int = 2,
) -> Dataset:
    """The images and labels at `path`, in a format that is recognised.

    Args:
        path: a folder, or a file such as `labels.csv`, `annotations.json`, `data.yaml`.
        format: the format's name, where it should not be recognised: folders, csv, coco, voc, yolo, ...
        images: the folder of images, where it is not beside the labels.
        task: what the set shall serve, where it can serve several: boxes can be read as `multilabel`.
        columns: for tables, which column (by name, or by position from 0) is the `path`, `label`, `labels`,
            `group`, `split`, `width`, `height`, `x`, `y`, `w`, `h`, `x1`, `y1`, `x2`, `y2`.
        delimiter: for tables; recognised where not given.
        box_order: for tables whose header does not say it: `xywh`, `xyhw` or `xyxy`.
        missing: what to do about images that labels name and nobody finds: `error`, `drop` them, or
            `keep` what is known of them, where the format states their size.
        minimum_labels: a classification set with fewer distinct labels is an error.

    Raises:
        BadDataset: it cannot be read; one sentence says what, where and what to do.
        UnknownName: no format, task or column of that name.
        WrongTask: the set cannot serve `task`.

    Example:
        >>> from blemish.data import open_dataset
        >>> open_dataset("nowhere")
        Traceback (most recent call last):
        ...
        blemish.errors.BadDataset: nowhere: no such file or folder; check the path
    """
    wanted = named_task(task)
    if missing not in ("error", "drop", "keep"):
        raise UnknownName("answer to missing images", missing, ("error", "drop", "keep"))
    reading = ReadContext(
        images=None if images is None else Path(images),
        task=wanted,
        columns=columns or {},
        delimiter=delimiter,
        box_order=box_order,
        missing=missing,
        minimum_labels=minimum_labels,
    )
    return read_dataset(path, format, reading)


def read_dataset(path: Path | str, format: str | None, reading: ReadContext) -> Dataset:  # noqa: A002
    """The data set at `path`, with every problem told to `reading`; see `open_dataset`."""
    path = Path(path)
    chosen = _recognise(path) if format is None else get_format(format)
    if not path.exists():
        raise BadDataset(f"{path}: no such file or folder; check the path")
    try:
        dataset = chosen.implementation.read(path, reading)
    except OSError as error:
        raise BadDataset(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    except BlemishError:
        raise
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        # What no reader foresaw is still something in these files that no data set of the format holds.
        raise BadDataset(
            f"{path}: cannot be read as {chosen.name}, something in its label files has a value or a depth "
            f"that the format knows nothing of ({error}); look at what was edited last, or give another "
            "--format"
        ) from error
    dataset = replace(dataset, format=chosen.name, notes=(*dataset.notes, *reading.notes))
    if reading.task is not None:
        dataset = as_task(dataset, reading.task)
    if not reading.lenient:
        _check_labels(dataset, path, reading.minimum_labels)
    return dataset


def as_task(dataset: Dataset, task: Task | str) -> Dataset:
    """The same images for another task, where what is known of them suffices.

    Masks can be read as boxes, boxes as labels in the image, several labels as one where every
    image has exactly one.

    Raises:
        WrongTask: the truths do not hold what `task` needs; the message names an image.
    """
    wanted = named_task(task)
    if wanted is None or wanted is dataset.task:
        return dataset
    return replace(dataset, task=wanted, samples=tuple(_sample_as(s, wanted) for s in dataset.samples))


def _sample_as(sample: Sample, wanted: Task) -> Sample:
    ground_truth = sample.ground_truth
    if ground_truth is None:
        return sample
    where = sample.origin or sample.id
    converted: GroundTruth = wanted.hook("convert")(ground_truth, where)
    return replace(sample, ground_truth=converted)


def named_task(task: Task | str | None) -> Task | None:
    """The task of that name; an unknown one is an error that lists them."""
    if task is None:
        return None
    try:
        return Task(task)
    except ValueError:
        raise UnknownName("task", str(task), [str(t) for t in Task]) from None


def _recognise(path: Path) -> Format:
    if not path.exists():
        raise BadDataset(f"{path}: no such file or folder; check the path")
    for candidate in formats_by_rank():
        try:
            if candidate.implementation.recognizes(path):
                return candidate
        except OSError:
            continue
    if path.is_dir():
        if not any(path.iterdir()):
            raise BadDataset(f"{path}: the folder is empty; put images and labels in it")
        if ImageIndex(path).files:
            raise BadDataset(
                f"{path}: images without labels; sort them into a folder for each label, or put a"
                f" table such"
                " as labels.csv beside them"
            )
    known = ", ".join(f.description for f in formats_by_rank())
    raise BadDataset(f"{path}: no data set that can be recognised; known are {known}")


def _check_labels(dataset: Dataset, path: Path, minimum: int) -> None:
    if not dataset.task.has_one_label:
        return
    held = {
        name for s in dataset.samples if s.ground_truth is not None for name in s.ground_truth.label_names
    }
    if len(held) < minimum:
        only = f"the only label is {next(iter(held))!r}" if held else "no image has a label"
        raise BadDataset(
            f"{path}: {only}, and classification needs at least {minimum}; add images of another"
        )
