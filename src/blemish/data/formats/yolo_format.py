"""YOLO text files: a line for each object, in shares of the image's width and height."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import yaml

from blemish.arrays import FloatArray, Mask
from blemish.data.coordinates import boxes_or_masks, place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.formats.yolo_layout import (
    NAME_FILES,
    YoloLayout,
    each_once,
    find_yaml,
    has_names,
    looks_like_tree,
    plan_of_tree,
    plan_of_yaml,
)
from blemish.data.image_index import is_image_name, sample_id
from blemish.data.polygon_masks import PolygonMask
from blemish.data.raw_annotations import RawAnnotations
from blemish.data.read_context import ReadContext
from blemish.data.split_names import SPLITS
from blemish.data.write_context import WriteContext, file_names, lose_extras, require_task, split_folders
from blemish.errors import BadDataset, BadInput
from blemish.geometry import mask_to_polygons, mask_to_rings
from blemish.structures import Dataset, Sample, Task

MOST_LABELS = 100_000
SAME_BOX_PIXELS = 1.0  # boxes of outlines are written in whole pixels as often as not
SLACK = 1e-6  # shares may leave [0, 1] by rounding


@register("yolo", rank=40, description="data.yaml, or images/ beside labels/ with .txt files")
class YoloReader:
    """Boxes and outlines as Ultralytics and Darknet read them."""

    def recognizes(self, path: Path) -> bool:
        """Whether there is a data.yaml with names, or text files in `labels` beside `images`."""
        if path.is_file():
            return path.suffix.casefold() in (".yaml", ".yml") and has_names(path)
        return path.is_dir() and (find_yaml(path) is not None or looks_like_tree(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """One sample for each image, split by split, in the order of the names."""
        file = path if path.is_file() else find_yaml(path)
        plan = plan_of_yaml(file, context) if file is not None else plan_of_tree(path)
        drawn: list[RawAnnotations] = []
        label_files: set[str] = set()
        most = -1
        for split, images in each_once(plan, context).items():
            for image in images:
                text = label_file(image)
                one = RawAnnotations(
                    id=sample_id(image, plan.root),
                    path=image,
                    split=split,
                    origin=text,
                    relative=True,
                )
                content = _content(text)
                if content is not None:
                    label_files.add(text)
                    most = max(most, _read_lines(content, one, plan, context))
                elif context.lenient:
                    context.problem(
                        "image-without-label",
                        f"there is no {Path(text).name} for it; it counts as an image with nothing in it",
                        path=image,
                        remedy="label it, or write an empty file to say that it holds nothing",
                        severity=Severity.NOTE,
                    )
                drawn.append(one)
        if not drawn:
            raise BadDataset(f"{path}: there are no images where it says; correct {file or 'the folders'}")
        if not label_files:
            raise BadDataset(
                f"{path}: no image has a label file, {label_file(drawn[0].path)} for one; add them"
            )
        _orphans(label_files, {os.fspath(d.path) for d in drawn}, context)
        names = plan.names
        if names is None:
            names = [str(i) for i in range(most + 1)]
            context.note(
                "nobody names its labels, so they are called by their numbers; write names: in data.yaml"
            )
        if not names:
            raise BadDataset(f"{path}: there is no label in it; write names: in data.yaml")
        task = boxes_or_masks(drawn, context)
        labels = labels_with_display_names(names)
        samples = place_all(drawn, task, labels, context)
        return Dataset(task=task, labels=labels, samples=samples, root=plan.root, format="yolo")

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """`images/` beside `labels/`, with a data.yaml where the set has splits, else a classes.txt."""
        require_task(dataset, "yolo", Task.DETECTION, Task.SEGMENTATION, Task.LOCALIZATION)
        splits = split_folders(dataset)
        names = file_names(dataset, context)
        lose_extras(dataset, context, {"masks": True})
        for sample in dataset.samples:
            image = root / "images" / (sample.split or "") / names[sample.id]
            context.put(sample, image)
            text = root / label_file(image.relative_to(root))
            text.parent.mkdir(parents=True, exist_ok=True)
            lines = object_lines(sample, context)
            text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        if splits:
            content: dict[str, object] = {"path": "."}
            content |= {s: f"images/{s}" for s in SPLITS if s in dataset.splits}
            content["names"] = dict(enumerate(dataset.labels.names))
            text_of = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            (root / "data.yaml").write_text(text_of, "utf-8")
        else:
            context.lose("there is no data.yaml, which takes splits; divide the set to get one")
            lines = [" ".join(name.splitlines()) for name in dataset.labels]
            if lines != list(dataset.labels.names):
                context.lose("classes.txt takes a line for each label, so labels of several became one line")
            (root / "classes.txt").write_text("".join(f"{n}\n" for n in lines), "utf-8")


def label_file(image: Path) -> str:
    """The text file of an image: `images` replaced by `labels` in its path, or else beside it.

    Example:
        >>> label_file(Path("set/images/train/a.jpg")).replace(os.sep, "/")
        'set/labels/train/a.txt'
    """
    # Text and no Path, which takes longer to put together than the file takes to read.
    text = os.fspath(image)
    before, found, after = f"{os.sep}{text}".rpartition(f"{os.sep}images{os.sep}")
    if found:
        text = f"{before}{os.sep}labels{os.sep}{after}"[1:]
    return text[: text.rindex(".")] + ".txt"


def object_lines(sample: Sample, context: WriteContext) -> list[str]:
    """The lines of a sample's text file: label, centre, width and height, or label and outline, in shares."""
    ground_truth = sample.ground_truth
    if ground_truth is None or ground_truth.boxes_xyxy is None or not len(ground_truth):
        return []
    if sample.size_hw is None:
        raise BadInput(f"{sample.path}: its size is not known; restore the image or leave it out")
    scale = np.array([sample.size_hw[1], sample.size_hw[0]], np.float64)
    lines = []
    bare = [
        m is None or (isinstance(m, PolygonMask) and m.from_box)
        for m in ground_truth.masks or [None] * len(ground_truth)
    ]
    mixed = any(bare) and not all(bare)
    if mixed:
        context.lose("a file of YOLO holds boxes or outlines, so boxes were written as rectangles", sample)
    for row, label in enumerate(ground_truth.label_index.tolist()):
        mask = None if ground_truth.masks is None else ground_truth.masks[row]
        if mask is None or (bare[row] and not mixed):
            low, high = ground_truth.boxes_xyxy[row, :2] / scale, ground_truth.boxes_xyxy[row, 2:] / scale
            low, high = _inside(low, sample, context), _inside(high, sample, context)
            numbers = np.concatenate([(low + high) / 2, high - low])
        else:
            outline = _one_outline(mask, sample, context)
            if outline is None:
                continue
            around = np.concatenate([outline.min(0), outline.max(0)])
            if np.abs(around - ground_truth.boxes_xyxy[row]).max() > SAME_BOX_PIXELS:
                context.lose("a box that is not the one around its outline becomes that one", sample)
            numbers = _inside(outline / scale, sample, context).reshape(-1)
        lines.append(" ".join([str(label), *(f"{v:.12g}" for v in numbers)]))
    return lines


def _inside(shares: FloatArray, sample: Sample, context: WriteContext) -> FloatArray:
    if shares.min() < -SLACK or shares.max() > 1 + SLACK:
        context.lose("what reaches over the edge of the image was cut off", sample)
    return np.clip(shares, 0, 1)


def _one_outline(mask: Mask, sample: Sample, context: WriteContext) -> FloatArray | None:
    """(k, 2) one outline for a whole mask: parts are joined by bridges without width, holes are filled."""
    if isinstance(mask, PolygonMask):
        parts = list(mask.polygons)
    else:
        rings = mask_to_rings(mask)
        parts = mask_to_polygons(mask)
        if len(rings) > len(parts):
            context.lose("a YOLO polygon has no holes, they were filled", sample)
    if not parts:
        context.lose("an empty mask was left out", sample)
        return None
    if len(parts) == 1:
        return parts[0]
    context.lose("a YOLO polygon has one part, several were joined by bridges without width", sample)
    start = parts[0][:1]
    bridged = [np.concatenate([part, part[:1], start]) for part in parts[1:]]
    return np.concatenate([parts[0], start, *bridged])


def _content(text: str) -> str | None:
    """What a text file says; None where there is none."""
    try:
        with open(text, "rb") as file:  # noqa: PTH123 - a third of the time of Path.read_text
            return file.read().decode("utf-8-sig", "replace")
    except (FileNotFoundError, IsADirectoryError):
        return None


def _read_lines(content: str, one: RawAnnotations, plan: YoloLayout, context: ReadContext) -> int:
    """Give an image the objects of its text file; the highest number of a label in it, or -1."""
    highest = -1
    kinds: dict[bool, int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        fault = ""
        try:
            values = [float(c) for c in cells]
        except ValueError:
            values, fault = [], "a line takes numbers only"
        if not fault and plan.has_keypoints:
            values = values[:5]
        if not fault:
            fault = _fault(values, plan)
        if fault:
            unknown = fault.startswith("label")
            context.problem(
                "unknown-label" if unknown else "bad-line",
                fault,
                origin=f"{one.origin}:{number}",
                path=one.path,
                remedy="name it in data.yaml or correct the number"
                if unknown
                else "correct or drop the line",
                fix="drops the line",
            )
            continue
        label = int(values[0])
        highest = max(highest, label)
        origin = f"{one.origin}:{number}"
        kinds.setdefault(len(values) == 5, number)
        if len(values) == 5:
            x, y, w, h = values[1:]
            one.add(label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), origin=origin)
        else:
            points = np.array(values[1:]).reshape(-1, 2)
            x1, y1, x2, y2 = np.concatenate([points.min(0), points.max(0)]).tolist()
            one.add(label, (x1, y1, x2, y2), region=(points,), origin=origin)
    if len(kinds) > 1 and context.lenient:
        context.problem(
            "mixed-lines",
            "boxes and outlines stand in one file, which Ultralytics refuses",
            origin=f"{one.origin}:{max(kinds.values())}",
            path=one.path,
            remedy="draw the missing outlines, or write boxes only with data convert --task detection",
            severity=Severity.WARNING,
            fix="writes the boxes as rectangles",
        )
    return highest


def _fault(values: list[float], plan: YoloLayout) -> str:
    """What is wrong with the numbers of a line, or ""."""
    if not all(map(math.isfinite, values)):
        return "a line takes finite numbers only"
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        count = len(values)
        return (
            f"a line takes a label and four numbers, or a label and three points or more, not {count} numbers"
        )
    if values[0] < 0 or values[0] != int(values[0]):
        return f"a line begins with the number of a label, not {values[0]:g}"
    if plan.names is not None and values[0] >= len(plan.names):
        return f"label {int(values[0])} is not among the {len(plan.names)} that {plan.names_file} names"
    if values[0] > MOST_LABELS:
        return f"a line begins with the number of a label, and {values[0]:g} is too high for one"
    if len(values) == 5 and min(values[3:]) < 0:
        return f"the box is {values[3]:g} wide and {values[4]:g} high"
    if max(values[1:]) > 2:
        return f"coordinates are shares of the image, up to 1, not {max(values[1:]):g}"
    return ""


def _orphans(used: set[str], listed: set[str], context: ReadContext) -> None:
    """Text files that no image belongs to, and those whose image is listed nowhere."""
    orphans = sorted(
        file
        for folder in {os.path.dirname(f) for f in used}  # noqa: PTH120 - see label_file
        for name in os.listdir(folder or ".")  # noqa: PTH208
        if name.endswith(".txt") and name not in NAME_FILES and not name.casefold().startswith("readme")
        if (file := os.path.join(folder, name)) not in used  # noqa: PTH118
    )
    shelves: dict[str, dict[str, str]] = {}
    spare = {o: p for o in orphans if (p := _image_of(o, shelves)) is not None and p not in listed}
    for orphan, image in spare.items():
        context.problem(
            "image-not-listed",
            "it and its label file lie there, and no list of data.yaml names it",
            origin=orphan,
            path=Path(image),
            remedy="list it, or leave it at that",
            severity=Severity.NOTE,
            fix="leaves it out",
        )
    if spare:
        context.note(f"{len(spare)} images have label files and are listed nowhere, and were left out")
    orphans = [o for o in orphans if o not in spare]
    if not orphans:
        return
    for orphan in orphans:
        context.problem(
            "label-without-image",
            "there is no image for the label file",
            origin=orphan,
            path=Path(orphan),
            remedy="restore the image or remove the file",
            severity=Severity.WARNING,
            fix="leaves it out",
        )
    context.note(f"{len(orphans)} label files have no image, such as {Path(orphans[0]).name}")


def _image_of(text: str, shelves: dict[str, dict[str, str]]) -> str | None:
    """The image that a text file is for, in `images` for `labels`, or else beside it."""
    before, found, after = f"{os.sep}{text}".rpartition(f"{os.sep}labels{os.sep}")
    for place in ([f"{before}{os.sep}images{os.sep}{after}"[1:]] if found else []) + [text]:
        folder, name = os.path.split(place)
        if folder not in shelves:
            inside = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []  # noqa: PTH112, PTH208
            shelves[folder] = {n.rpartition(".")[0]: n for n in inside if is_image_name(n)}
        if name[: -len(".txt")] in shelves[folder]:
            return os.path.join(folder, shelves[folder][name[: -len(".txt")]])  # noqa: PTH118
    return None
