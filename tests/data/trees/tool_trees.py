"""Draw the exports of annotation tools: LabelMe, VIA, Label Studio, Supervisely, CVAT and Ultralytics."""

from __future__ import annotations

import json
from typing import Any
from xml.sax.saxutils import quoteattr

from tests.data.trees.annotation_tree import SPLITS, Tree, TreeImage

SPELLINGS = (("train", "val", "test"), ("train", "valid", "test"), ("Train", "Val", "Test"))


def _folders(tree: Tree, whole: tuple[str, ...] = ("",), share: float = 0.4) -> dict[str | None, str]:
    """Return the folder of each split, or one folder."""
    if not tree.chance(share):
        return {None: tree.choice(whole)}
    spelling = tree.choice(SPELLINGS)
    return {split: f"{spelling[i]}/" for i, split in enumerate(SPLITS[: tree.choice((2, 3))])}


def _images(tree: Tree, folders: dict[str | None, str], inside: str = "") -> dict[str, list[TreeImage]]:
    """Add images with objects to each folder."""
    taken = tree.names(20)
    found: dict[str, list[TreeImage]] = {}
    for number, (split, folder) in enumerate(folders.items()):
        for name in taken[5 * number : 5 * number + tree.choice((2, 3, 4))]:
            image = tree.image(f"{folder}{inside}{name}", split)
            tree.draw_objects(image)
            found.setdefault(folder, []).append(image)
    return found


def _corners(box: tuple[float, float, float, float]) -> list[list[float]]:
    x1, y1, x2, y2 = box
    return [[x1, y1], [x2, y1], [x2, y2], [(x1 + x2) / 2, y2], [x1, y2]]


def _tasks(tree: Tree, outlined: list[bool]) -> None:
    tree.tasks = ("segmentation",) if any(outlined) else ("detection",)


def draw_labelme(tree: Tree) -> None:
    """Draw one JSON file next to each image."""
    tree.draw_labels()
    outlined: list[bool] = []
    folders = _folders(tree, ("", "", "images/", "a/b/"))
    apart = tree.odd("JSON in another folder", 0.15) and None in folders
    for images in _images(tree, folders).values():
        for image in images:
            if len(tree.images) > 3 and not image.objects and tree.chance(0.3):
                image.annotated = False
                continue
            shapes = []
            for label, box in image.objects:
                polygon = tree.chance(0.6)
                outlined.append(polygon)
                x1, y1, x2, y2 = box
                opposite = [[x1, y1], [x2, y2]] if tree.chance(0.7) else [[x2, y1], [x1, y2]]
                shape = {
                    "label": label,
                    "points": _corners(box) if polygon else opposite,
                    "group_id": None,
                    "shape_type": "polygon" if polygon else "rectangle",
                    "flags": {},
                }
                shapes.append(shape)
            folder = image.path.rpartition("/")[0]
            file = f"labelme/{image.stem}.json" if apart else f"{image.path.rpartition('.')[0]}.json"
            above = f"../{folder}/{image.name}" if folder else f"../{image.name}"
            written = above if apart else image.name
            if tree.odd("Windows path", 0.1):
                written = above.replace("/", "\\") if apart else f".\\{image.name}"
            content = {
                "version": "5.2.1",
                "flags": {},
                "shapes": shapes,
                "imagePath": written,
                "imageData": None,
                "imageHeight": image.size_wh[1],
                "imageWidth": image.size_wh[0],
            }
            tree.write(file, json.dumps(content, indent=2, ensure_ascii=tree.chance(0.5)))
    _tasks(tree, outlined)
    tree.other_files()


def draw_via(tree: Tree) -> None:
    """Draw JSON of the VGG Image Annotator."""
    tree.draw_labels()
    outlined: list[bool] = []
    attribute = tree.choice(("label", "class", "Schaden", "type"))
    style = tree.choice(("export", "project", "version 1"))
    as_options = tree.odd("labels as options", 0.1)
    for folder, images in _images(tree, _folders(tree, ("", "", "images/"))).items():
        entries: dict[str, Any] = {}
        for image in images:
            regions = []
            for label, box in image.objects:
                polygon = tree.chance(0.6)
                outlined.append(polygon)
                x1, y1, x2, y2 = box
                shape: dict[str, Any] = {
                    "name": "rect",
                    "x": x1,
                    "y": y1,
                    "width": x2 - x1,
                    "height": y2 - y1,
                }
                if polygon:
                    points = _corners(box)
                    shape = {
                        "name": "polygon",
                        "all_points_x": [p[0] for p in points],
                        "all_points_y": [p[1] for p in points],
                    }
                value = {label: True} if as_options else label
                regions.append({"shape_attributes": shape, "region_attributes": {attribute: value}})
            key = f"{image.name}{tree.rng.randint(1000, 99999)}"
            entries[key] = {
                "filename": image.name,
                "size": 1000,
                "regions": {str(i): r for i, r in enumerate(regions)} if style == "version 1" else regions,
                "file_attributes": {},
            }
        content = entries
        if style == "project":
            content = {"_via_settings": {"ui": {}}, "_via_img_metadata": entries, "_via_attributes": {}}
        file = tree.choice(("via_region_data.json", "via_project.json", "damage labels.json"))
        tree.write(f"{folder if folder != 'images/' else ''}{file}", json.dumps(content))
    _tasks(tree, outlined)
    tree.other_files()


def draw_label_studio(tree: Tree) -> None:
    """Draw the JSON of Label Studio: the full export or JSON-MIN, in percent of the image."""
    tree.draw_labels()
    tree.tolerance = 0.05
    outlined: list[bool] = []
    minimal = tree.chance(0.4)
    tasks: list[dict[str, Any]] = []
    for images in _images(tree, {None: tree.choice(("", "images/"))}).values():
        for image in images:
            results: list[dict[str, Any]] = []
            width, height = image.size_wh
            for label, box in image.objects:
                polygon = tree.chance(0.5)
                outlined.append(polygon)
                points = [[100 * x / width, 100 * y / height] for x, y in _corners(box)]
                kind = "polygon" if polygon else "rectangle"
                (x1, y1), (x2, y2) = points[0], points[2]
                value: dict[str, Any] = (
                    {"points": points} if polygon else {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
                )
                value |= {f"{kind}labels": [label]} | ({} if polygon else {"rotation": 0})
                sizes = {"original_width": width, "original_height": height}
                results.append({"value": value, "type": f"{kind}labels", "id": str(len(results))} | sizes)
            place = tree.choice((f"/data/upload/1/{image.name}", f"/data/local-files/?d=cars/{image.name}"))
            if "#" in image.name or "+" in image.name:
                place = image.name.replace("#", "%23")
            task: dict[str, Any] = {"id": len(tasks) + 1}
            if minimal:
                boxes = [
                    r["value"] | {k: r[k] for k in ("original_width", "original_height")} for r in results
                ]
                task |= {"image": place, "label": boxes, "annotation_id": 7, "annotator": 1}
            else:
                task |= {"data": {"image": place}, "annotations": [{"id": 3, "result": results}]}
            tasks.append(task)
    tree.write(tree.choice(("project-1-at-2024.json", "result.json", "labels.json")), json.dumps(tasks))
    _tasks(tree, outlined)
    if any("#" in i.name for i in tree.images):
        tree.may_refuse.append("number sign in a name")
    tree.other_files()


def draw_supervisely(tree: Tree) -> None:
    """Draw a project of Supervisely: ann/ next to img/ in each data set."""
    labels = tree.draw_labels()
    outlined: list[bool] = []
    folders = _folders(tree, ("", "ds0/", "my set/"), 0.3)
    for folder, images in _images(tree, folders, "img/").items():
        for image in images:
            objects = []
            for label, box in image.objects:
                polygon = tree.chance(0.5)
                outlined.append(polygon)
                exterior = _corners(box) if polygon else [list(box[:2]), list(box[2:])]
                kind = "polygon" if polygon else "rectangle"
                geometry = {"exterior": exterior, "interior": []}
                objects.append({"classTitle": label, "geometryType": kind, "points": geometry, "tags": []})
            size = {"height": image.size_wh[1], "width": image.size_wh[0]}
            content = {"description": "", "tags": [], "size": size, "objects": objects}
            tree.write(f"{folder}ann/{image.name}.json", json.dumps(content))
    if tree.chance(0.8):
        classes = [{"title": name, "shape": "any", "color": "#FF0000"} for name in labels]
        tree.write("meta.json", json.dumps({"classes": classes, "tags": []}))
    _tasks(tree, outlined)
    tree.other_files()


def draw_cvat(tree: Tree) -> None:
    """Draw the XML of CVAT for images 1.1."""
    labels = tree.draw_labels()
    outlined: list[bool] = []
    folder = tree.choice(("", "images/"))
    subsets = tree.chance(0.4)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "<version>1.1</version><meta><task><labels>",
    ]
    lines += [
        f"<label><name>{name.replace('&', '&amp;').replace('<', '&lt;')}</name></label>" for name in labels
    ]
    lines.append("</labels></task></meta>")
    for number, image in enumerate(next(iter(_images(tree, {None: folder}).values()))):
        image.split = SPLITS[number % 3] if subsets else None
        subset = f" subset={quoteattr(tree.choice((image.split.title(), image.split)))}" if subsets else ""
        name = quoteattr(tree.choice((image.name, image.path)))
        width, height = image.size_wh
        lines.append(f'<image id="{number}" name={name} width="{width}" height="{height}"{subset}>')
        for label, box in image.objects:
            polygon = tree.chance(0.5)
            outlined.append(polygon)
            x1, y1, x2, y2 = box
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in _corners(box))
            shape = f'points="{points}"' if polygon else f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"'
            tag = "polygon" if polygon else "box"
            lines.append(
                f'<{tag} label={quoteattr(label)} occluded="0" source="manual" {shape} z_order="0"/>'
            )
        lines.append("</image>")
    tree.write(tree.choice(("annotations.xml", "my task.xml")), "\n".join([*lines, "</annotations>"]))
    _tasks(tree, outlined)
    tree.other_files()


def draw_ndjson(tree: Tree) -> None:
    """Draw the .ndjson of Ultralytics, in fractions of the image."""
    labels = tree.draw_labels()
    outlines = tree.chance(0.4)
    tree.tasks = ("segmentation",) if outlines else ("detection",)
    tree.tolerance = 0.05
    kind = "segments" if outlines else "boxes"
    names = {str(i): name for i, name in enumerate(labels)}
    lines: list[dict[str, Any]] = [
        {"type": "dataset", "task": "segment" if outlines else "detect", "name": "x", "class_names": names}
    ]
    folder = tree.choice(("", "images/"))
    for number, image in enumerate(next(iter(_images(tree, {None: folder}).values()))):
        image.split = SPLITS[number % 3]
        width, height = image.size_wh
        entries = []
        for label, box in image.objects:
            x1, y1, x2, y2 = (v / side for v, side in zip(box, (width, height) * 2, strict=True))
            numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            if outlines:
                numbers = [v for x, y in _corners(box) for v in (x / width, y / height)]
            entries.append([labels.index(label), *(round(v, 6) for v in numbers)])
        entry = {"type": "image", "file": image.name, "width": width, "height": height, "split": image.split}
        lines.append(entry | ({"annotations": {kind: entries}} if entries else {}))
    tree.write(tree.choice(("cars.ndjson", "my set.ndjson")), "\n".join(map(json.dumps, lines)))
    if not any(i.objects for i in tree.images):
        tree.may_refuse.append("no object")
    tree.other_files()
