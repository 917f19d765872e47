"""Write specimens as data sets in layouts that are common among users."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.data.synthetic.cells import cells
from blemish.data.synthetic.modules import modules
from blemish.data.synthetic.panels import panels
from blemish.data.synthetic.specimen import Specimen
from blemish.data.synthetic.vehicles import vehicles
from blemish.errors import BadInput, StorageFull, UnknownName
from blemish.imaging import LoadedImage
from blemish.structures import Dataset, GroundTruth, Sample, Task

LAYOUTS = {
    "images": tuple(Task),
    "folders": (Task.CLASSIFICATION,),
    "csv": (Task.CLASSIFICATION,),
    "multilabel-csv": (Task.MULTILABEL,),
    "boxes-csv": (Task.LOCALIZATION, Task.DETECTION),
}
SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".bmp")
Splits = Mapping[str, float] | None


def write_cells(
    root: Path | str,
    count: int,
    seed: int = 0,
    *,
    layout: str = "multilabel-csv",
    task: Task | str | None = None,
    size: int = 128,
    bits: int = 8,
    splits: Splits = None,
    suffix: str = ".png",
) -> Dataset:
    """Generate images of solar cells and write them as a data set.

    Args:
        root: the folder; created if it does not exist.
        count: number of images.
        seed: the same seed writes the same bytes.
        layout: see `write_specimens`.
        task: the task. Default: the first one of the layout.
        size: height and width, in pixels, >= 32.
        bits: 8 or 16.
        splits: see `write_specimens`.
        suffix: suffix of the images; 16 bits need `.png` or `.tif`.

    Returns:
        The data set, with paths, sizes, groups, splits and ground truth.

    Raises:
        UnknownName: the layout or suffix does not exist.
        BadInput: count, size or bits are out of range, or the layout cannot represent the task.
        StorageFull: the disk is full or read-only.
    """
    specimens = cells(count, seed, size=size, bits=bits, task=_task_of_layout(layout, task))
    return write_specimens(specimens, root, layout=layout, splits=splits, suffix=suffix)


def write_panels(
    root: Path | str,
    count: int,
    seed: int = 0,
    *,
    layout: str = "folders",
    task: Task | str | None = None,
    size_hw: tuple[int, int] = (128, 128),
    splits: Splits = None,
    suffix: str = ".png",
) -> Dataset:
    """Generate images of painted panels and write them as a data set; see `write_cells`."""
    specimens = panels(count, seed, size_hw=size_hw, task=_task_of_layout(layout, task))
    return write_specimens(specimens, root, layout=layout, splits=splits, suffix=suffix)


def write_modules(
    root: Path | str,
    count: int,
    seed: int = 0,
    *,
    layout: str = "images",
    task: Task | str | None = None,
    size: int = 1200,
    splits: Splits = None,
    suffix: str = ".png",
) -> Dataset:
    """Generate images of whole solar modules and write them as a data set; see `write_cells`."""
    specimens = modules(count, seed, size=size, task=_task_of_layout(layout, task))
    return write_specimens(specimens, root, layout=layout, splits=splits, suffix=suffix)


def write_vehicles(
    root: Path | str,
    count: int,
    seed: int = 0,
    *,
    layout: str = "folders",
    size_hw: tuple[int, int] = (128, 128),
    splits: Splits = None,
    suffix: str = ".png",
) -> Dataset:
    """Generate images of vehicles and write them as a data set; see `write_cells`."""
    _task_of_layout(layout, Task.CLASSIFICATION)
    return write_specimens(
        vehicles(count, seed, size_hw=size_hw), root, layout=layout, splits=splits, suffix=suffix
    )


def write_specimens(
    specimens: Iterable[Specimen],
    root: Path | str,
    *,
    layout: str = "images",
    splits: Splits = None,
    suffix: str = ".png",
) -> Dataset:
    """Write specimens as a data set.

    Layouts, with `SPLIT/` only if there are splits:

        images          images/ID.png; only the returned data set contains the ground truth
        folders         SPLIT/LABEL/ID.png
        csv             images/ID.png, labels.csv: path,label,split
        multilabel-csv  images/ID.png, labels.csv: filename;crack;inactive, and split
        boxes-csv       images/ID.png, boxes.csv: filename,width,height,class,x,y,w,h, one line per box

    Args:
        specimens: the output of a generator; it is written one by one.
        root: the folder; created if it does not exist.
        layout: one of the layouts above.
        splits: the fraction of each split, such as {"train": .6, "val": .2, "test": .2}; a group is never
            divided. Default: no splits.
        suffix: suffix of the images: `.png`, `.jpg`, `.webp`, `.tif` or `.bmp`.

    Returns:
        The data set, with paths, sizes, groups, splits and ground truth.

    Raises:
        UnknownName: the layout or suffix does not exist.
        BadInput: there are no specimens, or the layout cannot represent the task.
        StorageFull: the disk is full or read-only.
    """
    if layout not in LAYOUTS:
        raise UnknownName("layout", layout, LAYOUTS)
    if suffix not in SUFFIXES:
        raise UnknownName("suffix", suffix, SUFFIXES)
    root, remaining = Path(root), iter(specimens)
    first = next(remaining, None)
    if first is None:
        raise BadInput("count: expected at least 1 image, got 0", reason="count")
    task, labels = first.ground_truth.task, first.ground_truth.labels
    _task_of_layout(layout, task)
    samples: list[Sample] = []
    try:
        # The number of groups is known only at the end, so images move to the folders of splits then.
        for specimen in itertools.chain([first], remaining):
            folder = specimen.ground_truth.label_names[0] if layout == "folders" else "images"
            path = root / folder / f"{specimen.id}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(specimen.image, path)
            samples.append(
                Sample(
                    id=path.relative_to(root).as_posix(),
                    path=path,
                    size_hw=specimen.image.size_hw,
                    group=specimen.group,
                    ground_truth=specimen.ground_truth,
                )
            )
        if splits:
            samples = _assign_splits(samples, splits)
            if layout == "folders":
                samples = [_move_to_split(sample, root) for sample in samples]
        if layout.endswith("csv"):
            _write_table(samples, root, layout)
    except OSError as error:
        raise StorageFull(
            f"{root}: cannot be written ({error.strerror}). Free some space or choose another folder."
        ) from error
    return Dataset(task=task, labels=labels, samples=tuple(samples), root=root, format=layout)


def save_image(image: LoadedImage, path: Path) -> None:
    """Write an image in the format of the path's suffix; three equal channels are written as grayscale.

    Raises:
        BadInput: a 16-bit image with a suffix other than `.png` or `.tif`.
    """
    pixels = image.pixels
    if image.is_16bit:
        if path.suffix not in (".png", ".tif"):
            raise BadInput(
                f"{path}: expected the suffix .png or .tif for 16 bits, got {path.suffix}", reason="suffix"
            )
        Image.fromarray(pixels).save(path)
        return
    is_gray = bool((pixels[..., :1] == pixels[..., 1:]).all())
    raster = Image.fromarray(pixels[..., 0] if is_gray else pixels)
    if path.suffix == ".webp":
        raster.save(path, lossless=True)
    elif path.suffix == ".jpg":
        raster.save(path, quality=92)
    elif path.suffix == ".png":
        raster.save(path, compress_level=3)
    else:
        raster.save(path)


def _task_of_layout(layout: str, task: Task | str | None) -> Task:
    if layout not in LAYOUTS:
        raise UnknownName("layout", layout, LAYOUTS)
    known = LAYOUTS[layout]
    chosen = Task.SEGMENTATION if layout == "images" else known[0]
    chosen = chosen if task is None else Task(task)
    if chosen not in known:
        raise BadInput(
            f"layout {layout!r}: expected the task {' or '.join(known)}, got {chosen}", reason="layout-task"
        )
    return chosen


def _assign_splits(samples: list[Sample], splits: Mapping[str, float]) -> list[Sample]:
    """Assign each group to one split, at least one group per split if there are enough."""
    groups = list(dict.fromkeys(sample.group for sample in samples))
    shares = np.array([float(v) for v in splits.values()])
    edges = np.round(np.cumsum(shares / shares.sum()) * len(groups)).astype(int)
    if len(groups) >= len(splits):
        for i in range(len(edges)):
            edges[i] = np.clip(edges[i], i + 1, len(groups) - (len(edges) - 1 - i))
    order = np.random.default_rng(len(groups)).permutation(len(groups))
    names = list(splits)
    split_of = {
        groups[position]: names[int(np.searchsorted(edges, rank, side="right"))]
        for rank, position in enumerate(order)
    }
    return [replace(sample, split=split_of[sample.group]) for sample in samples]


def _move_to_split(sample: Sample, root: Path) -> Sample:
    new_id = f"{sample.split}/{sample.id}"
    path = root / new_id
    path.parent.mkdir(parents=True, exist_ok=True)
    sample.path.replace(path)
    if not any(sample.path.parent.iterdir()):
        sample.path.parent.rmdir()
    return replace(sample, id=new_id, path=path)


def _write_table(samples: list[Sample], root: Path, layout: str) -> None:
    name = "boxes.csv" if layout == "boxes-csv" else "labels.csv"
    with_splits = samples[0].split is not None
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";" if layout == "multilabel-csv" else ",", lineterminator="\n")
        header = {
            "csv": ["path", "label"],
            "multilabel-csv": ["filename", *_ground_truth(samples[0]).labels.names],
            "boxes-csv": ["filename", "width", "height", "class", "x", "y", "w", "h"],
        }[layout]
        writer.writerow(header + ["split"] * with_splits)
        for sample in samples:
            for row in _rows(sample, layout):
                writer.writerow(row + [sample.split] * with_splits)


def _rows(sample: Sample, layout: str) -> list[list[object]]:
    ground_truth = _ground_truth(sample)
    if layout == "csv":
        return [[sample.id, ground_truth.label_names[0]]]
    if layout == "multilabel-csv":
        return [[sample.id, *(int(v) for v in ground_truth.presence_mask())]]
    boxes = np.zeros((0, 4)) if ground_truth.boxes_xyxy is None else ground_truth.boxes_xyxy
    height, width = sample.size_hw or (0, 0)
    return [
        [sample.id, width, height, name, x1, y1, x2 - x1, y2 - y1]
        for name, (x1, y1, x2, y2) in zip(ground_truth.label_names, boxes.tolist(), strict=True)
    ]


def _ground_truth(sample: Sample) -> GroundTruth:
    assert sample.ground_truth is not None  # noqa: S101 - every specimen has one
    return sample.ground_truth
