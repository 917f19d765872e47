"""Specimens written as ordinary data sets, as people bring them."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.data.synthetic.cells import cells
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
    """Draw solar cells and write them as a data set.

    Args:
        root: the folder; made where it does not exist.
        count: how many.
        seed: the same seed writes the same bytes.
        layout: as for `write_specimens`.
        task: the layout's own, where not given.
        size: height and width, pixels.
        bits: 8 or 16.
        splits: as for `write_specimens`.
        suffix: of the images; 16 bits take `.png` or `.tif`.
    """
    drawn = cells(count, seed, size=size, bits=bits, task=_task(layout, task))
    return write_specimens(drawn, root, layout=layout, splits=splits, suffix=suffix)


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
    """Draw painted panels and write them as a data set; arguments as for `write_cells`."""
    drawn = panels(count, seed, size_hw=size_hw, task=_task(layout, task))
    return write_specimens(drawn, root, layout=layout, splits=splits, suffix=suffix)


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
    """Draw fronts and rears of vehicles and write them as a data set; arguments as for `write_cells`."""
    _task(layout, Task.CLASSIFICATION)
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

    Layouts, with `SPLIT/` only where there are splits:

        images     images/ID.png; the truths stand in the data set that comes back, and nowhere else
        folders         SPLIT/LABEL/ID.png
        csv             images/ID.png, labels.csv: path,label,split
        multilabel-csv  images/ID.png, labels.csv: filename;crack;inactive, and split
        boxes-csv       images/ID.png, boxes.csv: filename,width,height,class,x,y,w,h, one line a box

    Args:
        specimens: as a generator draws them; they are written one by one.
        root: the folder; made where it does not exist.
        layout: one of the above.
        splits: the share of each split, such as {"train": .6, "val": .2, "test": .2}; groups stay together.
        suffix: of the images.

    Returns:
        The data set, with paths, sizes, groups, splits and truths.

    Raises:
        UnknownName: a layout or suffix that does not exist.
        BadInput: a layout that cannot hold the task.
        StorageFull: it could not be written.
    """
    if layout not in LAYOUTS:
        raise UnknownName("layout", layout, LAYOUTS)
    if suffix not in SUFFIXES:
        raise UnknownName("suffix", suffix, SUFFIXES)
    root, drawn = Path(root), iter(specimens)
    first = next(drawn, None)
    if first is None:
        raise BadInput("no images to write; ask for 1 or more")
    task, labels = first.ground_truth.task, first.ground_truth.labels
    _task(layout, task)
    samples: list[Sample] = []
    try:
        # The shares need the number of groups, so folders of splits are filled at the end.
        for specimen in itertools.chain([first], drawn):
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
            samples = _with_splits(samples, splits)
            if layout == "folders":
                samples = [_moved(sample, root) for sample in samples]
        if layout.endswith("csv"):
            _write_table(samples, root, layout)
    except OSError as error:
        raise StorageFull(
            f"{root} could not be written ({error.strerror}); free some space or choose another folder"
        ) from error
    return Dataset(task=task, labels=labels, samples=tuple(samples), root=root, format=layout)


def save_image(image: LoadedImage, path: Path) -> None:
    """Write an image in the format of the path's suffix: 16 bits as such, equal channels as grey."""
    pixels = image.pixels
    if image.is_16bit:
        if path.suffix not in (".png", ".tif"):
            raise BadInput(f"{path.suffix} files do not hold 16 bits; take .png or .tif")
        Image.fromarray(pixels).save(path)
        return
    grey = bool((pixels[..., :1] == pixels[..., 1:]).all())
    raster = Image.fromarray(pixels[..., 0] if grey else pixels)
    if path.suffix == ".webp":
        raster.save(path, lossless=True)
    elif path.suffix == ".jpg":
        raster.save(path, quality=92)
    elif path.suffix == ".png":
        raster.save(path, compress_level=3)
    else:
        raster.save(path)


def _task(layout: str, task: Task | str | None) -> Task:
    if layout not in LAYOUTS:
        raise UnknownName("layout", layout, LAYOUTS)
    known = LAYOUTS[layout]
    chosen = Task.SEGMENTATION if layout == "images" else known[0]
    chosen = chosen if task is None else Task(task)
    if chosen not in known:
        raise BadInput(f"the layout {layout!r} cannot hold {chosen}; it holds {', '.join(known)}")
    return chosen


def _with_splits(samples: list[Sample], splits: Mapping[str, float]) -> list[Sample]:
    """Whole groups to each split, spread over the set, at least one where there are enough."""
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


def _moved(sample: Sample, root: Path) -> Sample:
    place = f"{sample.split}/{sample.id}"
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    sample.path.replace(path)
    if not any(sample.path.parent.iterdir()):
        sample.path.parent.rmdir()
    return replace(sample, id=place, path=path)


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
