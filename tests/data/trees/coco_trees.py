"""Draw COCO data sets: one file, one per split, with every spelling that tools give ids, paths and sizes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from tests.data.trees.annotation_tree import SPLITS, Tree, TreeImage

from blemish.geometry import mask_from_array, rle_to_text

# Folder of the images and file of annotations for each split; {s} is the split, {f} a spelling of it.
WHOLE = (
    ("images/", "annotations.json"),
    ("", "annotations.json"),
    ("images/", "my car damages.json"),
    ("images/", "annotations/instances_default.json"),
    ("", "_annotations.coco.json"),
    ("images/default/", "annotations/instances_default.json"),
    ("images/", "result.json"),
    ("data/", "labels.json"),
    ("images/", "annotations/COCO_annos.json"),
    ("JPEGImages/", "coco.json"),
)
PER_SPLIT = (
    ("images/{f}/", "annotations/instances_{f}.json"),
    ("{f}2017/", "annotations/instances_{f}2017.json"),
    ("{f}/", "{f}/_annotations.coco.json"),
    ("{f}/", "{f}/COCO_{f}_annos.json"),
    ("{f}/", "{f}/damages.json"),
    ("{f}/images/", "{f}/annotations.json"),
    ("{f}/images/", "{f}/annotations/own name.json"),
    ("images/", "annotations/{f}.json"),
    ("images/", "{f}.json"),
    ("images/{f}/", "COCO_{f}_annos.json"),
    ("images/{f}/", "annotations/damage_{f}.json"),
)
SPELLINGS = (("train", "val", "test"), ("train", "valid", "test"), ("Train", "Val", "Test"))


def draw_coco(tree: Tree) -> None:
    """Draw a data set with boxes, polygons or run lengths."""
    names = tree.draw_labels()
    kind = tree.choice(("boxes", "boxes", "polygons", "rle", "mixed"))
    tree.tasks = ("detection",) if kind == "boxes" else ("segmentation",)
    style = _Style(tree, kind)
    parts: dict[str | None, Any] = {None: tree.choice(WHOLE)}
    if tree.chance(0.5):
        spelling, layout = tree.choice(SPELLINGS), tree.choice(PER_SPLIT)
        parts = {
            split: tuple(p.format(f=spelling[i]) for p in layout)
            for i, split in enumerate(SPLITS[: tree.choice((2, 3))])
        }
    same_names = len({folder for folder, _ in parts.values()}) == len(parts) and tree.odd("same names", 0.3)
    taken = tree.names(20)
    for number, (split, (folder, file)) in enumerate(parts.items()):
        count = tree.choice((2, 3, 4))
        first = 0 if same_names else 5 * number
        images = []
        for name in taken[first : first + count]:
            image = tree.image(
                f"{folder}{name}", split, orientation=6 if _is_jpeg(name) and tree.odd("EXIF", 0.05) else 1
            )
            tree.draw_objects(image)
            images.append(image)
        tree.write(file, style.text(images, names, folder, file))
    if not any(i.objects for i in tree.images):
        tree.images[0].objects = []
        tree.may_refuse.append("no object")
    if kind != "boxes" and not any(style.has_region):
        tree.tasks = ("detection", "segmentation")
    if tree.odd("image that is not listed", 0.1):
        tree.image(f"{next(iter(parts.values()))[0]}unlisted.jpg", next(iter(parts))).annotated = False
    tree.other_files()


def _is_jpeg(name: str) -> bool:
    return name.casefold().endswith((".jpg", ".jpeg"))


class _Style:
    """How one tool writes COCO."""

    def __init__(self, tree: Tree, kind: str) -> None:
        self.tree, self.kind = tree, kind
        self.has_region: list[bool] = []
        self.first_id = tree.choice((0, 1, 1, 1000))
        self.category_ids = tree.choice(((1, 2, 3, 4), (0, 1, 2, 3), (3, 7, 90, 91), (10, 2, 5, 1)))
        self.text_ids = tree.odd("ids as text", 0.08)
        self.paths = tree.choice(("name", "name", "folder", "dot", "foreign", "windows", "stem"))
        self.sizes = tree.choice(("stated", "stated", "stated", "absent", "zero", "null"))
        self.extra = tree.chance(0.5)
        self.crowds = tree.odd("crowd", 0.1)
        self.nesting = tree.choice(("coco", "coco", "flat", "points"))
        if self.paths in ("foreign", "windows", "stem") or self.text_ids:
            tree.oddities.append(f"paths: {self.paths}")
        if self.paths == "stem":
            tree.may_refuse.append("file names without suffix")
        if self.sizes != "stated":
            tree.oddities.append(f"sizes: {self.sizes}")
        self.stored_size = tree.odd("sizes of the stored image", 0.3) and self.sizes == "stated"

    def text(self, images: list[TreeImage], names: tuple[str, ...], folder: str, file: str) -> str:
        """Return the content of one file."""
        tree, key = self.tree, (str if self.text_ids else int)
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, image in enumerate(images, self.first_id):
            entry: dict[str, Any] = {"id": key(number), "file_name": self.file_name(image, folder, file)}
            width, height = image.size_wh
            turned = image.orientation == 6 and self.stored_size and self.kind == "boxes" and width != height
            if image.orientation == 6 and not turned and self.sizes != "stated":
                tree.may_refuse.append("orientation is ambiguous")
            if self.sizes == "stated":
                entry |= {"width": height, "height": width} if turned else {"width": width, "height": height}
            elif self.sizes != "absent":
                value = 0 if self.sizes == "zero" else None
                entry |= {"width": value, "height": value}
            if self.extra:
                entry |= {"license": 1, "date_captured": "2024-01-01", "coco_url": ""}
            entries.append(entry)
            for label, box in image.objects:
                x1, y1, x2, y2 = box
                if turned:  # stored pixels, which orientation 6 turns clockwise: x = height of stored - y
                    x1, y1, x2, y2 = y1, width - x2, y2, width - x1
                annotation: dict[str, Any] = {
                    "id": key(len(annotations) + self.first_id),
                    "image_id": key(number),
                    "category_id": key(self.category_ids[names.index(label)]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                }
                region = self.region(box, image)
                self.has_region.append(bool(region))
                if region is not None:
                    annotation["segmentation"] = region
                if self.extra:
                    annotation |= {
                        "area": (x2 - x1) * (y2 - y1),
                        "iscrowd": int(self.crowds and tree.chance(0.3)),
                    }
                annotations.append(annotation)
        annotations += self.faulty(images[0], key(self.first_id))
        categories = [{"id": key(self.category_ids[i]), "name": n} for i, n in enumerate(names)]
        if self.extra:
            categories = [c | {"supercategory": "damage"} for c in categories]
        content: dict[str, Any] = {"images": entries, "annotations": annotations, "categories": categories}
        if self.extra:
            content = {"info": {"description": "x"}, "licenses": []} | content
        return json.dumps(content, ensure_ascii=tree.chance(0.5), indent=2 if tree.chance(0.3) else None)

    def faulty(self, image: TreeImage, image_id: int | str) -> list[dict[str, Any]]:
        """Return annotations that must not be read, and add a box that is partly outside its image."""
        tree, category = self.tree, type(image_id)(self.category_ids[0])
        width, height = image.size_wh
        out: list[dict[str, Any]] = []
        if tree.odd("box without area", 0.04, may_refuse=True):
            tree.losses += 1
            out.append({"bbox": [3, 3, 0, 9]})
        if tree.odd("category that is not listed", 0.02, may_refuse=True):
            tree.losses += 1
            out.append({"bbox": [3, 3, 9, 9], "category_id": 555})
        if image.orientation == 1 and tree.odd("box partly outside", 0.05):
            image.objects.append((tree.labels[0], (width - 9, height - 7, width + 4, height + 3)))
            out.append({"bbox": [width - 9, height - 7, 13, 10]})
        shared = {"image_id": image_id, "category_id": category}
        return [{"id": 900 + number, **shared, **entry} for number, entry in enumerate(out)]

    def file_name(self, image: TreeImage, folder: str, file: str) -> str:
        """Return the path of an image as written."""
        above = file.rpartition("/")[0]
        inside = folder.removeprefix(f"{above}/") if above and folder.startswith(f"{above}/") else folder
        return {
            "name": image.name,
            "folder": f"{inside}{image.name}",
            "dot": f"./{inside}{image.name}",
            "foreign": f"/home/user/projects/{folder}{image.name}",
            "windows": f"C:\\data\\{folder}{image.name}".replace("/", "\\"),
            "stem": image.stem,
        }[self.paths]

    def region(self, box: tuple[float, float, float, float], image: TreeImage) -> Any:
        """Return a segmentation with this bounding box, [] or None."""
        kind = self.tree.choice(("boxes", "polygons", "rle")) if self.kind == "mixed" else self.kind
        x1, y1, x2, y2 = box
        if kind == "boxes":
            return self.tree.choice(([], None))
        if kind == "rle":
            width, height = image.size_wh
            pixels = np.zeros((height, width), bool)
            pixels[y1:y2, x1:x2] = True
            mask = mask_from_array(pixels)
            counts = mask.counts.tolist() if self.tree.chance(0.5) else rle_to_text(mask)
            return {"size": [height, width], "counts": counts}
        points = [[x1, y1], [x2, y1], [x2, y2], [(x1 + x2) / 2, y2], [x1, y2]]
        flat = [v for point in points for v in point]
        return {"coco": [flat], "flat": flat, "points": [points]}[self.nesting]
