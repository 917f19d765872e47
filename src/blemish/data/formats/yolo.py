"""YOLO text files: a line for each object, in shares of the photograph's width and height."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.outlines import OutlinedMask
from blemish.data.placing import Drawn, boxes_or_masks, place_all
from blemish.data.reading import Reading, Shelf, sample_id, split_named
from blemish.data.titles import labels_with_titles
from blemish.data.writing import Writing, file_names, lose_extras, require_task, split_folders
from blemish.errors import BadDataset, BadInput
from blemish.geometry import mask_to_polygons, mask_to_rings
from blemish.vocabulary import Dataset, FloatArray, Mask, Sample, Task

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "class_names.txt")
MOST_LABELS = 100_000
SAME_BOX_PIXELS = 1.0  # boxes of outlines are written in whole pixels as often as not
SLACK = 1e-6  # shares may leave [0, 1] by rounding


@dataclass
class Plan:
    """What data.yaml, or else the tree, says.

    Attributes:
        root: that photographs are named from.
        names: the labels in the order of their numbers; None where nobody names them.
        images: the photographs of each split, None being the split of a set without splits.
        says: the file that names the labels.
        has_keypoints: whether the lines go on after the box with points that are no outline.
    """

    root: Path
    names: list[str] | None
    images: dict[str | None, list[Path]] = field(default_factory=dict)
    says: Path | None = None
    has_keypoints: bool = False


@register("yolo", rank=40, says="data.yaml, or images/ beside labels/ with .txt files")
class Yolo:
    """Boxes and outlines as Ultralytics and Darknet read them."""

    def recognises(self, path: Path) -> bool:
        """Whether there is a data.yaml with names, or text files in `labels` beside `images`."""
        if path.is_file():
            return path.suffix.casefold() in (".yaml", ".yml") and _has_names(path)
        return path.is_dir() and (_yaml_of(path) is not None or _looks_like_tree(path))

    def read(self, path: Path, reading: Reading) -> Dataset:
        """One sample for each photograph, split by split, in the order of the names."""
        file = path if path.is_file() else _yaml_of(path)
        plan = _plan_of_yaml(file, reading) if file is not None else _plan_of_tree(path)
        drawn: list[Drawn] = []
        label_files: set[str] = set()
        most = -1
        for split, photographs in _once(plan, reading).items():
            for photograph in photographs:
                text = label_file(photograph)
                one = Drawn(
                    id=sample_id(photograph, plan.root),
                    path=photograph,
                    split=split,
                    origin=text,
                    relative=True,
                )
                content = _content(text)
                if content is not None:
                    label_files.add(text)
                    most = max(most, _read_lines(content, one, plan, reading))
                elif reading.lenient:
                    reading.problem(
                        "photograph-without-label",
                        f"there is no {Path(text).name} for it; it counts as a photograph with nothing in it",
                        path=photograph,
                        remedy="label it, or write an empty file to say that it holds nothing",
                        severity=Severity.NOTE,
                    )
                drawn.append(one)
        if not drawn:
            raise BadDataset(
                f"{path}: there are no photographs where it says; correct {file or 'the folders'}"
            )
        if not label_files:
            raise BadDataset(
                f"{path}: no photograph has a label file, {label_file(drawn[0].path)} for one; add them"
            )
        _orphans(label_files, reading)
        names = plan.names
        if names is None:
            names = [str(i) for i in range(most + 1)]
            reading.note(
                "nobody names its labels, so they are called by their numbers; write names: in data.yaml"
            )
        if not names:
            raise BadDataset(f"{path}: there is no label in it; write names: in data.yaml")
        task = boxes_or_masks(drawn, reading)
        labels = labels_with_titles(names)
        samples = place_all(drawn, task, labels, reading)
        return Dataset(task=task, labels=labels, samples=samples, root=plan.root, format="yolo")

    def write(self, dataset: Dataset, writing: Writing) -> None:
        """`images/` beside `labels/`, with a data.yaml where the set has splits, else a classes.txt."""
        require_task(dataset, "yolo", Task.DETECTION, Task.SEGMENTATION, Task.LOCALIZATION)
        splits = split_folders(dataset)
        names = file_names(dataset, writing)
        lose_extras(dataset, writing, {"masks": True})
        for sample in dataset.samples:
            image = writing.root / "images" / (sample.split or "") / names[sample.id]
            writing.put(sample, image)
            text = writing.root / label_file(image.relative_to(writing.root))
            text.parent.mkdir(parents=True, exist_ok=True)
            lines = object_lines(sample, writing)
            text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        if splits:
            content: dict[str, object] = {"path": "."}
            content |= {s: f"images/{s}" for s in ("train", "val", "test") if s in dataset.splits}
            content["names"] = dict(enumerate(dataset.labels.names))
            text_of = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
            (writing.root / "data.yaml").write_text(text_of, "utf-8")
        else:
            writing.lose("there is no data.yaml, which takes splits; divide the set to get one")
            (writing.root / "classes.txt").write_text("".join(f"{n}\n" for n in dataset.labels), "utf-8")


def label_file(photograph: Path) -> str:
    """The text file of a photograph: `images` replaced by `labels` in its path, or else beside it.

    Example:
        >>> label_file(Path("set/images/train/a.jpg")).replace(os.sep, "/")
        'set/labels/train/a.txt'
    """
    # Text and no Path, which takes longer to put together than the file takes to read.
    text = os.fspath(photograph)
    before, found, after = f"{os.sep}{text}".rpartition(f"{os.sep}images{os.sep}")
    if found:
        text = f"{before}{os.sep}labels{os.sep}{after}"[1:]
    return text[: text.rindex(".")] + ".txt"


def object_lines(sample: Sample, writing: Writing) -> list[str]:
    """The lines of a sample's text file: label, centre, width and height, or label and outline, in shares."""
    truth = sample.truth
    if truth is None or truth.boxes_xyxy is None or not len(truth):
        return []
    if sample.size_hw is None:
        raise BadInput(f"{sample.path}: its size is not known; restore the photograph or leave it out")
    scale = np.array([sample.size_hw[1], sample.size_hw[0]], np.float64)
    lines = []
    bare = [
        m is None or (isinstance(m, OutlinedMask) and m.stands_in) for m in truth.masks or [None] * len(truth)
    ]
    mixed = any(bare) and not all(bare)
    if mixed:
        writing.lose("a file of YOLO holds boxes or outlines, so boxes were written as rectangles", sample)
    for row, label in enumerate(truth.label_index.tolist()):
        mask = None if truth.masks is None else truth.masks[row]
        if mask is None or (bare[row] and not mixed):
            low, high = truth.boxes_xyxy[row, :2] / scale, truth.boxes_xyxy[row, 2:] / scale
            low, high = _inside(low, sample, writing), _inside(high, sample, writing)
            numbers = np.concatenate([(low + high) / 2, high - low])
        else:
            outline = _one_outline(mask, sample, writing)
            if outline is None:
                continue
            around = np.concatenate([outline.min(0), outline.max(0)])
            if np.abs(around - truth.boxes_xyxy[row]).max() > SAME_BOX_PIXELS:
                writing.lose("a box that is not the one around its outline becomes that one", sample)
            numbers = _inside(outline / scale, sample, writing).reshape(-1)
        lines.append(" ".join([str(label), *(f"{v:.12g}" for v in numbers)]))
    return lines


def _inside(shares: FloatArray, sample: Sample, writing: Writing) -> FloatArray:
    if shares.min() < -SLACK or shares.max() > 1 + SLACK:
        writing.lose("what reaches over the edge of the photograph was cut off", sample)
    return np.clip(shares, 0, 1)


def _one_outline(mask: Mask, sample: Sample, writing: Writing) -> FloatArray | None:
    """(k, 2) one outline for a whole mask: parts are joined by bridges without width, holes are filled."""
    if isinstance(mask, OutlinedMask):
        parts = list(mask.polygons)
    else:
        rings = mask_to_rings(mask)
        parts = mask_to_polygons(mask)
        if len(rings) > len(parts):
            writing.lose("a YOLO polygon has no holes, they were filled", sample)
    if not parts:
        writing.lose("an empty mask was left out", sample)
        return None
    if len(parts) == 1:
        return parts[0]
    writing.lose("a YOLO polygon has one part, several were joined by bridges without width", sample)
    start = parts[0][:1]
    bridged = [np.concatenate([part, part[:1], start]) for part in parts[1:]]
    return np.concatenate([parts[0], start, *bridged])


def _yaml_of(path: Path) -> Path | None:
    for name in YAML_NAMES:
        if (path / name).is_file() and _has_names(path / name):
            return path / name
    others = [f for f in sorted(path.iterdir()) if f.suffix.casefold() in (".yaml", ".yml") and _has_names(f)]
    return others[0] if len(others) == 1 else None


def _has_names(file: Path) -> bool:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    keys = {
        line.split(":")[0].strip()
        for line in text.splitlines()
        if ":" in line and not line.startswith((" ", "#"))
    }
    return "names" in keys and bool(keys & {"train", "val", "test", "path", "nc"})


def _looks_like_tree(path: Path) -> bool:
    trees = [path, *(p for p in path.iterdir() if p.is_dir() and split_named(p.name))]
    if any(
        (t / "images").is_dir() and any((t / "labels").rglob("*.txt"))
        for t in trees
        if (t / "labels").is_dir()
    ):
        return True
    return any((path / n).is_file() for n in NAME_FILES) and any(
        f.suffix == ".txt" and f.name not in NAME_FILES for f in path.iterdir()
    )


def _plan_of_yaml(file: Path, reading: Reading) -> Plan:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise BadDataset(f"{file}{line}: no valid YAML; mend it there") from error
    if not isinstance(content, dict):
        raise BadDataset(f"{file}: it is no mapping; write names:, train: and val:")
    names = _names(content.get("names"), file)
    if "nc" in content and content["nc"] != len(names):
        reading.problem(
            "unknown-label",
            f"nc is {content['nc']}, and names holds {len(names)}",
            origin=str(file),
            remedy="correct one of them",
            severity=Severity.WARNING,
        )
        reading.note(f"{file.name} says nc: {content['nc']} and names {len(names)} labels")
    root = file.parent
    if content.get("path"):
        stated = Path(str(content["path"]))
        found = next((p for p in (stated, file.parent / stated) if p.is_dir()), None)
        if found is None or (
            found == stated and not stated.is_absolute() and (file.parent / stated).is_dir()
        ):
            found = file.parent / stated if (file.parent / stated).is_dir() else None
        if found is None:
            reading.note(
                f"the path {str(stated)!r} in {file.name} does not exist here; its own folder was taken"
            )
        root = found or file.parent
    plan = Plan(root, names, says=file, has_keypoints=bool(content.get("kpt_shape")))
    if plan.has_keypoints:
        reading.note("keypoints were left out")
    for key, split in (("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test")):
        entries = content.get(key)
        if entries:
            listed = entries if isinstance(entries, list) else [entries]
            plan.images.setdefault(split, []).extend(
                p for e in listed for p in _photographs_of(str(e), key, root, file, reading)
            )
    if not plan.images:
        raise BadDataset(f"{file}: it names neither train, val nor test; say where their photographs are")
    if reading.images is not None:
        plan.images = {None: list(Shelf(reading.images).files.values())}
    return plan


def _names(value: Any, file: Path) -> list[str]:
    if isinstance(value, dict):
        keys = sorted(value) if all(isinstance(k, int) for k in value) else []
        if keys != list(range(len(value))):
            raise BadDataset(
                f"{file}: names must be numbered from 0 without gaps, not {list(value)[:8]}; correct them"
            )
        value = [value[k] for k in keys]
    if not isinstance(value, list) or not value:
        raise BadDataset(f"{file}: names holds no labels; write them as a list")
    names = [str(v).strip() for v in value]
    for i, name in enumerate(names):
        if not name:
            raise BadDataset(f"{file}: label {i} has no name; write one")
        if name in names[:i]:
            raise BadDataset(f"{file}: the label {name!r} is given twice; rename one")
    return names


def _photographs_of(entry: str, key: str, root: Path, file: Path, reading: Reading) -> list[Path]:
    """The photographs that a line of data.yaml means: a folder, or a text file that lists them."""
    plain = entry.replace("\\", "/")
    tail = "/".join(p for p in plain.split("/") if p not in ("..", "."))
    for place in (root / plain, root / tail, file.parent / tail):
        if place.is_dir():
            return list(Shelf(place).files.values())
        if place.is_file():
            return _listed(place, root, reading)
    if key == "test":  # exports often name a test split that they do not hold
        reading.note(f"{file.name} names a test split in {entry!r} that does not exist")
        return []
    raise BadDataset(f"{file}: {key}: there is no folder or list {entry!r} below {root}; correct it")


def _listed(listing: Path, root: Path, reading: Reading) -> list[Path]:
    shelf = Shelf(root)
    found, missing = [], []
    for number, line in enumerate(listing.read_text("utf-8-sig").splitlines(), 1):
        if line.strip():
            photograph = shelf.find(line)
            if photograph is None:
                missing.append((line.strip(), f"{listing}:{number}"))
            else:
                found.append(photograph)
    reading.missing_photographs(missing, root, shelf)
    return found


def _plan_of_tree(path: Path) -> Plan:
    says = next((path / n for n in NAME_FILES if (path / n).is_file()), None)
    names = (
        None if says is None else [n.strip() for n in says.read_text("utf-8-sig").splitlines() if n.strip()]
    )
    plan = Plan(path, names, says=says)
    for photograph in Shelf(path).files.values():
        below = photograph.relative_to(path).parts[:-1]
        split = next((s for s in map(split_named, below) if s), None)
        plan.images.setdefault(split, []).append(photograph)
    return plan


def _content(text: str) -> str | None:
    """What a text file says; None where there is none."""
    try:
        with open(text, "rb") as file:  # noqa: PTH123 - a third of the time of Path.read_text
            return file.read().decode("utf-8-sig", "replace")
    except (FileNotFoundError, IsADirectoryError):
        return None


def _read_lines(content: str, one: Drawn, plan: Plan, reading: Reading) -> int:
    """Give a photograph the objects of its text file; the highest number of a label in it, or -1."""
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
            reading.problem(
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
    if len(kinds) > 1 and reading.lenient:
        reading.problem(
            "mixed-lines",
            "boxes and outlines stand in one file, which Ultralytics refuses",
            origin=f"{one.origin}:{max(kinds.values())}",
            path=one.path,
            remedy="draw the missing outlines, or write boxes only with data convert --task detection",
            severity=Severity.WARNING,
            fix="writes the boxes as rectangles",
        )
    return highest


def _fault(values: list[float], plan: Plan) -> str:
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
        return f"label {int(values[0])} is not among the {len(plan.names)} that {plan.says} names"
    if values[0] > MOST_LABELS:
        return f"a line begins with the number of a label, and {values[0]:g} is too high for one"
    if len(values) == 5 and min(values[3:]) < 0:
        return f"the box is {values[3]:g} wide and {values[4]:g} high"
    if max(values[1:]) > 2:
        return f"coordinates are shares of the photograph, up to 1, not {max(values[1:]):g}"
    return ""


def _once(plan: Plan, reading: Reading) -> dict[str | None, list[Path]]:
    """The photographs of each split; one that stands in several is kept in the last, to measure with."""
    last: dict[Path, str | None] = {
        p: split for split, photographs in plan.images.items() for p in photographs
    }
    if len(last) == sum(map(len, plan.images.values())):
        return plan.images
    if set(last.values()) != set(plan.images):  # the last split holds all of another: the first one counts
        for split, photographs in reversed(plan.images.items()):
            last.update(dict.fromkeys(photographs, split))
    out: dict[str | None, list[Path]] = {}
    twice: dict[tuple[str | None, str | None], int] = {}
    for split, photographs in plan.images.items():
        out[split] = [p for p in dict.fromkeys(photographs) if last[p] == split]
        for photograph in photographs:
            if last[photograph] != split:
                pair = (split, last[photograph])
                twice[pair] = twice.get(pair, 0) + 1
    for (split, kept), count in twice.items():
        reading.note(f"{count} photographs stand in {split} and in {kept}, and count for {kept} only")
        if reading.lenient:
            reading.problem(
                "split-leak",
                f"{count} photographs stand in {split} and in {kept}",
                origin=str(plan.says or plan.root),
                remedy="list each in one split only: blemish data split",
                fix=f"drops them from {split}",
            )
    return {s: p for s, p in out.items() if p}


def _orphans(used: set[str], reading: Reading) -> None:
    """Text files that no photograph belongs to."""
    orphans = sorted(
        file
        for folder in {os.path.dirname(f) for f in used}  # noqa: PTH120 - see label_file
        for name in os.listdir(folder or ".")  # noqa: PTH208
        if name.endswith(".txt") and name not in NAME_FILES and not name.casefold().startswith("readme")
        if (file := os.path.join(folder, name)) not in used  # noqa: PTH118
    )
    if not orphans:
        return
    for orphan in orphans:
        reading.problem(
            "label-without-photograph",
            "there is no photograph for the label file",
            origin=orphan,
            path=Path(orphan),
            remedy="restore the photograph or remove the file",
            severity=Severity.WARNING,
            fix="leaves it out",
        )
    reading.note(f"{len(orphans)} label files have no photograph, such as {Path(orphans[0]).name}")
