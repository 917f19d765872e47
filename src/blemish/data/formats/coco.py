"""COCO: one JSON file for a split, with images, categories and annotations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.outlines import OutlinedMask
from blemish.data.placing import Box, Drawn, Region, boxes_or_masks, place_all
from blemish.data.reading import Reading, Shelf, sample_id, split_named
from blemish.data.titles import labels_with_titles
from blemish.data.writing import Writing, file_names, lose_extras, require_task, split_folders
from blemish.errors import BadDataset, BadInput
from blemish.geometry import mask_box, rle_from_text, rle_to_text
from blemish.geometry.polygons import FARTHEST
from blemish.vocabulary import Dataset, Labels, Mask, Task, Truth

NAMES = ("annotations.json", "_annotations.coco.json", "labels.json", "coco.json", "result.json")
YES = (1, "1")  # as some write numbers; True is 1
FOLDERS = ("annotations", "labels", "raw")


@register("coco", rank=20, says="annotations.json, _annotations.coco.json or annotations/instances_*.json")
class Coco:
    """COCO's own layout, that of Roboflow's exports, and files of any other name given by path."""

    def recognises(self, path: Path) -> bool:
        """Whether a file in one of the usual places begins as COCO does."""
        return bool(_annotation_files(path))

    def read(self, path: Path, reading: Reading) -> Dataset:
        """One sample for each image, in the order of the files and of the images in them."""
        files = _annotation_files(path) or ({None: path} if path.is_file() else {})
        if not files:
            raise BadDataset(f"{path}: no COCO file in it; give the path of the JSON file")
        root = path if path.is_dir() else _root_of(path)
        contents = {split: _load(file) for split, file in files.items()}
        labels, categories = _categories(files, contents, reading)
        shelf = Shelf(reading.images or root)
        drawn: list[Drawn] = []
        missing: list[tuple[str, str]] = []
        for split, file in files.items():
            content = contents.pop(split)
            taken = _read_images(file, split, content, shelf, root, reading, missing)
            _read_annotations(file, content, taken, categories[split], reading)
            drawn += taken.values()
        reading.missing_photographs(missing, shelf.root, shelf)
        if not drawn:
            raise BadDataset(
                f"{path}: it names no photograph that lies in {shelf.root}; say where they are with images="
            )
        task = boxes_or_masks(drawn, reading)
        samples = place_all(drawn, task, labels, reading)
        return Dataset(task=task, labels=labels, samples=samples, root=root, format="coco")

    def write(self, dataset: Dataset, writing: Writing) -> None:
        """`annotations/instances_SPLIT.json` and `images/SPLIT`, or `annotations.json` and `images`."""
        require_task(dataset, "coco", Task.DETECTION, Task.SEGMENTATION, Task.LOCALIZATION)
        splits = split_folders(dataset)
        names = file_names(dataset, writing)
        lose_extras(
            dataset,
            writing,
            dict.fromkeys(("group", "crowd", "difficult", "truncated", "masks", "areas"), True),
        )
        for split in dataset.splits if splits else (None,):
            part = dataset.of_split(split) if split else dataset
            for sample in part.samples:
                writing.put(sample, writing.root / "images" / (split or "") / names[sample.id])
            text = json.dumps(coco_content(part, names), ensure_ascii=False)
            file = f"annotations/instances_{split}.json" if split else "annotations.json"
            (writing.root / file).parent.mkdir(exist_ok=True)
            (writing.root / file).write_text(text, "utf-8")


def coco_content(dataset: Dataset, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A data set of boxes or masks as the content of one COCO file; ids count from 1 in its order.

    Args:
        dataset: every photograph's size is known.
        names: the `file_name` of each sample id; the ids themselves where not given.

    Raises:
        BadInput: the size of a photograph is not known.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(dataset.samples, 1):
        if sample.size_hw is None:
            raise BadInput(f"{sample.path}: its size is not known; restore the photograph or leave it out")
        image: dict[str, Any] = {
            "id": number,
            "file_name": sample.id if names is None else names[sample.id],
            "height": sample.size_hw[0],
            "width": sample.size_hw[1],
        }
        if sample.group is not None:
            image["group"] = sample.group
        images.append(image)
        truth = sample.truth
        for row in range(0 if truth is None else len(truth)):
            annotations.append(_annotation(truth, row, number, len(annotations) + 1))  # type: ignore[arg-type]
    categories = [{"id": i, "name": n, "supercategory": ""} for i, n in enumerate(dataset.labels.names, 1)]
    return {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _annotation(truth: Truth, row: int, image: int, number: int) -> dict[str, Any]:
    x1, y1, x2, y2 = truth.boxes_xyxy[row].tolist()  # type: ignore[index]
    out: dict[str, Any] = {
        "id": number,
        "image_id": image,
        "category_id": int(truth.label_index[row]) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(truth.crowd[row]),
        "segmentation": [],
    }
    mask = None if truth.masks is None else truth.masks[row]
    if isinstance(mask, OutlinedMask):
        if not mask.stands_in:
            out["segmentation"] = [p.reshape(-1).tolist() for p in mask.polygons]
            out["area"] = mask.area
    elif mask is not None:
        counts = mask.counts.tolist() if truth.crowd[row] else rle_to_text(mask)
        out["segmentation"] = {"size": list(mask.size_hw), "counts": counts}
        out["area"] = mask.area
    if truth.areas.size and np.isfinite(truth.areas[row]):
        out["area"] = float(truth.areas[row])
    for flag in ("difficult", "truncated"):  # not COCO's own; whoever does not know them passes over them
        values = getattr(truth, flag)
        if values.size and values[row]:
            out[flag] = 1
    return out


def _annotation_files(path: Path) -> dict[str | None, Path]:
    """The COCO files of a set by split, None being the split of a set without splits."""
    if path.is_file():
        return {_split_of(path): path} if _begins_as_coco(path) else {}
    found: list[Path] = []
    for folder in (path, *(path / f for f in FOLDERS)):
        if folder.is_dir():
            found += [
                f for f in sorted(folder.glob("*.json")) if not f.name.startswith(".") and _begins_as_coco(f)
            ]
    instances = [f for f in found if f.name.startswith("instances_")]
    found = instances or found
    below: list[Path] = []
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and split_named(p.name)):
        below += [folder / n for n in NAMES if (folder / n).is_file() and _begins_as_coco(folder / n)][:1]
    if below and not found:
        return {split_named(f.parent.name): f for f in below}
    splits = {_split_of(f): f for f in found}
    if len(found) > 1 and (None in splits or len(splits) < len(found)):
        named = [f for f in found if f.name in NAMES]
        if len(named) == 1:
            return {None: named[0]}
        shown = ", ".join(f.name for f in found)
        raise BadDataset(
            f"{path}: holds several COCO files ({shown}); give the path of the one that you mean"
        )
    return splits


def _split_of(file: Path) -> str | None:
    for word in re.split(r"[^a-z]+", file.stem.casefold()):
        if split_named(word):
            return split_named(word)
    return split_named(file.parent.name)


def _begins_as_coco(file: Path) -> bool:
    if file.suffix.casefold() != ".json":
        return False
    with file.open("rb") as stream:
        head = stream.read(4096).lstrip(b"\xef\xbb\xbf \r\n\t")
    return (
        head.startswith(b"{")
        and b'"shapes"' not in head
        and any(
            f'"{key}"'.encode() in head for key in ("images", "annotations", "categories", "info", "licenses")
        )
    )


def _root_of(file: Path) -> Path:
    """The folder that photographs are named from: above `annotations/`, and above a split's own folder."""
    return file.parent.parent if file.parent.name in FOLDERS else file.parent


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise BadDataset(f"{file}:{error.lineno}: no valid JSON ({error.msg}); mend it there") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise BadDataset(f"{file}: no valid JSON; save it in UTF-8") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise BadDataset(
                f"{file}: there is no list {key!r}, as every COCO file has; is it another format?"
            )
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise BadDataset(f"{file}: an entry of {key!r} is no object; mend or remove it")
    return content  # type: ignore[no-any-return]


def _categories(
    files: Mapping[str | None, Path], contents: Mapping[str | None, dict[str, Any]], reading: Reading
) -> tuple[Labels, dict[str | None, dict[Any, int]]]:
    """The labels of all files, in the order of their ids, and where each file's ids stand among them."""
    names: list[str] = []
    by_file: dict[str | None, dict[Any, str]] = {}
    for split, content in contents.items():
        used = {_key(a.get("category_id")) for a in content["annotations"]}
        entries = sorted(
            content["categories"], key=lambda c: (not isinstance(c.get("id"), int), str(c.get("id")).zfill(9))
        )
        above = {c.get("supercategory") for c in entries}
        by_file[split] = {}
        for entry in entries:
            key, name = _key(entry.get("id")), str(entry.get("name") or "").strip()
            if (
                key == 0
                and key not in used
                and len(entries) > 1
                and (name in above or str(entry.get("supercategory")) == "none")
            ):
                reading.note(
                    f"the category {name!r} with id 0 and no object, which Roboflow adds, was dropped"
                )
                continue
            if not name:
                reading.problem(
                    "empty-label", f"category {key} has no name", origin=str(files[split]), remedy="name it"
                )
                name = f"category_{key}"
            if name in by_file[split].values():
                reading.problem(
                    "repeated-label",
                    f"two categories are named {name!r}",
                    origin=str(files[split]),
                    remedy="merge them",
                )
            by_file[split][key] = name
            if name not in names:
                names.append(name)
    labels = labels_with_titles(names)
    return labels, {s: {k: labels.index(n) for k, n in m.items()} for s, m in by_file.items()}


def _read_images(
    file: Path,
    split: str | None,
    content: dict[str, Any],
    shelf: Shelf,
    root: Path,
    reading: Reading,
    missing: list[tuple[str, str]],
) -> dict[Any, Drawn]:
    """The photographs of a file by their ids; those that nobody finds are added to `missing`."""
    taken: dict[Any, Drawn] = {}
    near = file.parent.name
    seen: dict[Path, Any] = {}
    for entry in content["images"]:
        name, key = str(entry.get("file_name") or ""), _key(entry.get("id"))
        origin = f"{file}: image {key}"
        photograph = shelf.by_name(name, near)
        if photograph is None:
            if reading.missing != "keep" or reading.lenient:
                missing.append((name, origin))
                continue
            photograph = shelf.root / name
        if key in taken or photograph in seen:
            reading.problem(
                "repeated-line",
                f"{name!r} is listed twice" if photograph in seen else f"two images have the id {key}",
                origin=origin,
                path=photograph,
                remedy="drop one, and give its annotations to the other",
                fix="drops the later one",
            )
            continue
        seen[photograph] = key
        height, width = entry.get("height"), entry.get("width")
        stated = (int(height), int(width)) if _is_size(height) and _is_size(width) else None
        taken[key] = Drawn(
            id=sample_id(photograph, root), path=photograph, split=split, origin=origin, stated_hw=stated
        )
        if isinstance(entry.get("group"), str):
            taken[key].group = entry["group"]
    for entry in content["images"]:  # so that the annotations of missing ones are not called orphans
        taken.setdefault(_key(entry.get("id")), _ABSENT)
    return taken


_ABSENT = Drawn(id="", path=Path())


def _is_size(value: object) -> bool:
    return isinstance(value, int | float) and 1 <= value < FARTHEST


def _read_annotations(
    file: Path,
    content: dict[str, Any],
    taken: dict[Any, Drawn],
    categories: Mapping[Any, int],
    reading: Reading,
) -> None:
    """Give every photograph its objects."""
    for entry in content["annotations"]:
        origin = f"{file}: annotation {entry.get('id')}"
        drawn, category = taken.get(_key(entry.get("image_id"))), _key(entry.get("category_id"))
        if drawn is _ABSENT:
            continue
        if drawn is None:
            reading.problem(
                "label-without-photograph",
                f"it belongs to image {entry.get('image_id')!r}, which is not listed",
                origin=origin,
                remedy="list the image or drop the annotation",
                fix="drops it",
            )
            continue
        if category not in categories:
            reading.problem(
                "unknown-label",
                f"its category {category!r} is not listed",
                origin=origin,
                path=drawn.path,
                remedy="list the category or correct the id",
                fix="drops it",
            )
            continue
        region = _region(entry.get("segmentation"), drawn, origin, reading)
        box = _box(entry.get("bbox"), region, drawn, origin, reading)
        if box is None:
            continue
        drawn.add(
            categories[category],
            box,
            region=region,
            crowd=entry.get("iscrowd") in YES,
            difficult=entry.get("difficult") in YES,
            truncated=entry.get("truncated") in YES,
            area=_area(entry.get("area")),
            origin=origin,
        )
    for key in [k for k, d in taken.items() if d is _ABSENT]:
        del taken[key]


def _key(value: Any) -> Any:
    """An id that can be looked up, whatever somebody wrote for one."""
    return value if isinstance(value, int | float | str) or value is None else repr(value)


def _area(value: Any) -> float:
    """The area as written, square pixels; nan for none that can be."""
    return float(value) if _is_number(value) and value >= 0 else float("nan")


def _box(value: Any, region: Region, drawn: Drawn, origin: str, reading: Reading) -> Box | None:
    numbers = (
        [float(v) for v in value] if isinstance(value, list) and all(_is_number(v) for v in value) else []
    )
    if len(numbers) != 4:
        if region is not None:
            x1, y1, x2, y2 = (
                mask_box(region)
                if isinstance(region, Mask)
                else np.concatenate([_all(region).min(0), _all(region).max(0)])
            ).tolist()
            return x1, y1, x2, y2
        reading.problem(
            "bad-box",
            f"a box takes four finite numbers, not {value!r}"[:200],
            origin=origin,
            path=drawn.path,
            remedy="correct or drop it",
            fix="drops it",
        )
        return None
    x, y, width, height = numbers
    if width < 0 or height < 0:
        reading.problem(
            "box-inside-out",
            f"the box {numbers} has a negative side",
            origin=origin,
            path=drawn.path,
            remedy="write x, y, width, height",
            fix="swaps its corners",
        )
        x, y, width, height = min(x, x + width), min(y, y + height), abs(width), abs(height)
    return x, y, x + width, y + height


def _region(value: Any, drawn: Drawn, origin: str, reading: Reading) -> Region:
    """Outlines as written, or a mask of run lengths; None where there is neither."""
    if isinstance(value, dict):
        return _run_lengths(value, drawn, origin, reading)
    if not isinstance(value, list) and value is not None:
        reading.problem(
            "bad-run-lengths",
            f"its segmentation is {value!r}"[:80] + ", neither outlines nor run lengths",
            origin=origin,
            path=drawn.path,
            remedy="draw it again",
            fix="drops the outline",
        )
    if not isinstance(value, list) or not value:
        return None
    outlines = []
    for number, flat in enumerate(value):
        whole = (
            isinstance(flat, list)
            and len(flat) >= 6
            and len(flat) % 2 == 0
            and all(_is_number(v) and abs(v) < FARTHEST for v in flat)
        )
        if whole:
            outlines.append(np.array(flat, np.float64).reshape(-1, 2))
            continue
        reading.problem(
            "empty-polygon",
            f"outline {number} takes at least three points, x and y of each in pixels",
            origin=origin,
            path=drawn.path,
            remedy="draw it again",
            severity=Severity.WARNING,
            fix="drops the outline",
        )
        reading.note("outlines with fewer than three points were left out")
    return tuple(outlines) or None


def _run_lengths(value: dict[str, Any], drawn: Drawn, origin: str, reading: Reading) -> Region:
    counts, size = value.get("counts"), value.get("size")
    try:
        if not isinstance(size, list) or len(size) != 2 or not all(_is_size(v) for v in size):
            raise BadInput(f"size is {size!r}, not height and width")
        height, width = int(size[0]), int(size[1])
        if isinstance(counts, str):
            mask = rle_from_text(counts, (height, width))
        else:
            mask = Mask((height, width), np.array(counts, np.int64))
    except (BadInput, TypeError, ValueError, OverflowError) as error:
        reading.problem(
            "bad-run-lengths",
            f"its run lengths cannot be read ({error})",
            origin=origin,
            path=drawn.path,
            remedy="write the mask again",
            fix="drops the outline",
        )
        return None
    if drawn.stated_hw is not None and drawn.stated_hw != (height, width):
        reading.problem(
            "bad-run-lengths",
            f"its run lengths are of {width} x {height} pixels, its image states"
            f" {drawn.stated_hw[1]} x {drawn.stated_hw[0]}",
            origin=origin,
            path=drawn.path,
            remedy="write the mask again",
            fix="drops the outline",
        )
        return None
    return mask


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _all(region: tuple[Any, ...]) -> Any:
    return np.concatenate(region)
