"""The COCO format: one JSON file per split with images, categories and annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.coordinates import boxes_or_masks, place_all
from blemish.data.display_names import labels_with_display_names
from blemish.data.findings import Severity
from blemish.data.formats import register
from blemish.data.formats.coco_annotations import ABSENT, is_size, key_of, read_annotations
from blemish.data.formats.coco_files import FOLDERS, annotation_files, load_coco
from blemish.data.image_index import ImageIndex, sample_id
from blemish.data.polygon_masks import PolygonMask
from blemish.data.raw_annotations import RawAnnotations
from blemish.data.read_context import ReadContext
from blemish.data.write_context import WriteContext, file_names, lose_extras, require_task, split_folders
from blemish.errors import BadDataset, BadInput
from blemish.geometry import rle_to_text
from blemish.structures import Dataset, GroundTruth, Labels, Task

UNKNOWN_SIDE = (None, 0, "")  # values that tools write for an unknown width or height


@register(
    "coco", rank=20, description="annotations.json, _annotations.coco.json or annotations/instances_*.json"
)
class CocoFormat:
    """The layouts of COCO and of Roboflow's exports, and a single file of any name."""

    def recognizes(self, path: Path) -> bool:
        """Return whether a file in one of the usual places starts like a COCO file."""
        return bool(annotation_files(path))

    def read(self, path: Path, context: ReadContext) -> Dataset:
        """Return one sample per image, in the order of the files and of their images."""
        files = annotation_files(path) or ({None: path} if path.is_file() else {})
        if not files:
            raise BadDataset(
                "found no COCO file",
                where=path,
                remedy="pass the path of the JSON file",
                reason="no-label-file",
            )
        root = path if path.is_dir() else _root_of(path)
        contents = {split: load_coco(file) for split, file in files.items()}
        labels, categories = _categories(files, contents, context)
        image_index = ImageIndex(context.images or root)
        annotations: list[RawAnnotations] = []
        missing: list[tuple[str, str]] = []
        for split, file in files.items():
            content = contents.pop(split)
            images_by_id = _read_images(file, split, content, image_index, root, context, missing)
            read_annotations(file, content, images_by_id, categories[split], context)
            annotations += images_by_id.values()
        context.missing_images(missing, image_index.root, image_index)
        if not annotations:
            raise BadDataset(
                f"none of the listed images is in {image_index.root}",
                where=path,
                remedy="pass the folder of the images with --images",
                reason="no-images",
            )
        task = boxes_or_masks(annotations, context)
        samples = place_all(annotations, task, labels, context)
        return Dataset(task=task, labels=labels, samples=samples, root=root, format="coco")

    def write(self, dataset: Dataset, root: Path, context: WriteContext) -> None:
        """Write `annotations/instances_SPLIT.json` and `images/SPLIT`, or `annotations.json` and `images`."""
        require_task(dataset, "coco", *(t for t in Task if t.has_boxes))
        splits = split_folders(dataset)
        names = file_names(dataset, context)
        lose_extras(
            dataset,
            context,
            dict.fromkeys(("group", "crowd", "difficult", "truncated", "masks", "areas", "scores"), True),
        )
        for split in dataset.splits if splits else (None,):
            part = dataset.of_split(split) if split else dataset
            for sample in part.samples:
                context.put(sample, root / "images" / (split or "") / names[sample.id])
            text = json.dumps(coco_content(part, names, context.scores), ensure_ascii=False)
            file = f"annotations/instances_{split}.json" if split else "annotations.json"
            (root / file).parent.mkdir(exist_ok=True)
            (root / file).write_text(text, "utf-8")


def coco_content(
    dataset: Dataset,
    names: Mapping[str, str] | None = None,
    scores: Mapping[str, FloatArray] | None = None,
) -> dict[str, Any]:
    """Return a data set as the content of one COCO file; ids count from 1 in the order of the data set.

    Args:
        dataset: of a task with boxes; the size of every image is known.
        names: the `file_name` of each sample id. Default: the ids.
        scores: of predictions, (n,) float64 by sample id; each annotation then has a `score`.

    Raises:
        BadInput: the size of an image is unknown.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(dataset.samples, 1):
        if sample.size_hw is None:
            raise BadInput(
                f"{sample.path}: the size of the image is unknown. Restore the image or leave it out.",
                reason="unknown-size",
            )
        image: dict[str, Any] = {
            "id": number,
            "file_name": sample.id if names is None else names[sample.id],
            "height": sample.size_hw[0],
            "width": sample.size_hw[1],
        }
        if sample.group is not None:
            image["group"] = sample.group
        images.append(image)
        ground_truth = sample.ground_truth
        for row in range(0 if ground_truth is None else len(ground_truth)):
            annotations.append(_annotation(ground_truth, row, number, len(annotations) + 1))  # type: ignore[arg-type]
            if scores and sample.id in scores:
                annotations[-1]["score"] = float(scores[sample.id][row])
    categories = [{"id": i, "name": n, "supercategory": ""} for i, n in enumerate(dataset.labels.names, 1)]
    return {
        "info": {},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _annotation(ground_truth: GroundTruth, row: int, image: int, number: int) -> dict[str, Any]:
    x1, y1, x2, y2 = ground_truth.boxes_xyxy[row].tolist()  # type: ignore[index]
    out: dict[str, Any] = {
        "id": number,
        "image_id": image,
        "category_id": int(ground_truth.label_index[row]) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(ground_truth.crowd[row]),
        "segmentation": [],
    }
    mask = None if ground_truth.masks is None else ground_truth.masks[row]
    if isinstance(mask, PolygonMask):
        if not mask.from_box:
            out["segmentation"] = [p.reshape(-1).tolist() for p in mask.polygons]
            out["area"] = mask.area
    elif mask is not None:
        counts = mask.counts.tolist() if ground_truth.crowd[row] else rle_to_text(mask)
        out["segmentation"] = {"size": list(mask.size_hw), "counts": counts}
        out["area"] = mask.area
    if ground_truth.areas.size and np.isfinite(ground_truth.areas[row]):
        out["area"] = float(ground_truth.areas[row])
    for flag in ("difficult", "truncated"):  # not part of COCO; other tools ignore them
        values = getattr(ground_truth, flag)
        if values.size and values[row]:
            out[flag] = 1
    return out


def _root_of(file: Path) -> Path:
    """Return the folder that sample ids are relative to: above `annotations/` and above a split folder."""
    return file.parent.parent if file.parent.name in FOLDERS else file.parent


def _categories(
    files: Mapping[str | None, Path], contents: Mapping[str | None, dict[str, Any]], context: ReadContext
) -> tuple[Labels, dict[str | None, dict[Any, int]]]:
    """Return the labels of all files in the order of their ids, and the label index of each id per file."""
    names: list[str] = []
    by_file: dict[str | None, dict[Any, str]] = {}
    for split, content in contents.items():
        used = {key_of(a.get("category_id")) for a in content["annotations"]}
        entries = sorted(
            content["categories"], key=lambda c: (not isinstance(c.get("id"), int), str(c.get("id")).zfill(9))
        )
        by_file[split] = {}
        for entry in entries:
            key, name = key_of(entry.get("id")), str(entry.get("name") or "").strip()
            if (
                key == 0
                and key not in used
                and any(c.get("supercategory") == name != "" for c in entries if c is not entry)
            ):
                context.note(
                    f"the category {name!r} with id 0 and without objects, which Roboflow adds, was left out"
                )
                continue
            if not name:
                context.problem(
                    "empty-label",
                    f"category {key}: expected a name",
                    origin=str(files[split]),
                    remedy="add a name",
                )
                name = f"category_{key}"
            if key in by_file[split]:
                context.problem(
                    "repeated-label",
                    f"the categories {by_file[split][key]!r} and {name!r} have the same id {key!r}",
                    origin=str(files[split]),
                    remedy="give each a unique id, also in its annotations",
                )
                continue
            if name in by_file[split].values():
                context.problem(
                    "repeated-label",
                    f"two categories have the name {name!r}",
                    origin=str(files[split]),
                    remedy="merge them",
                )
            by_file[split][key] = name
            if name not in names:
                names.append(name)
    labels = labels_with_display_names(names)
    return labels, {s: {k: labels.index(n) for k, n in m.items()} for s, m in by_file.items()}


def _read_images(
    file: Path,
    split: str | None,
    content: dict[str, Any],
    image_index: ImageIndex,
    root: Path,
    context: ReadContext,
    missing: list[tuple[str, str]],
) -> dict[Any, RawAnnotations]:
    """Return the images of a file by their ids, and add those that do not exist to `missing`."""
    images_by_id: dict[Any, RawAnnotations] = {}
    folder_name = file.parent.name
    seen: dict[Path, Any] = {}
    for entry in content["images"]:
        name, key = str(entry.get("file_name") or ""), key_of(entry.get("id"))
        origin = f"{file}: image {key}"
        image = image_index.by_name(name, folder_name, split)
        if image is None:
            if context.missing != "keep" or context.lenient:
                missing.append((name, origin))
                continue
            image = image_index.root / name
        if key in images_by_id or image in seen:
            context.problem(
                "repeated-line",
                f"{name!r} is listed twice" if image in seen else f"two images have the id {key}",
                origin=origin,
                path=image,
                remedy="remove one, and assign its annotations to the other",
                fix="drops the later one",
            )
            continue
        seen[image] = key
        height, width = entry.get("height"), entry.get("width")
        stated_hw = (int(height), int(width)) if is_size(height) and is_size(width) else None
        if stated_hw is None and any(side not in UNKNOWN_SIDE for side in (height, width)):
            context.problem(
                "wrong-stated-size",
                f"expected width and height in pixels, got {width!r} and {height!r}"[:200],
                origin=origin,
                path=image,
                remedy="correct the size",
                severity=Severity.WARNING,
                fix="states the image's size",
            )
        images_by_id[key] = RawAnnotations(
            id=sample_id(image, root), path=image, split=split, origin=origin, stated_hw=stated_hw
        )
        if isinstance(entry.get("group"), str):
            images_by_id[key].group = entry["group"]
    for entry in content["images"]:  # annotations of missing images are not reported as orphans
        images_by_id.setdefault(key_of(entry.get("id")), ABSENT)
    return images_by_id
