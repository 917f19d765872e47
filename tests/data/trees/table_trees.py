"""Draw tables: one line per image or per box, in many dialects of CSV."""

from __future__ import annotations

import csv
import io
from typing import Any

from tests.data.trees.annotation_tree import SPLITS, Tree, TreeImage

PATH_HEADERS = ("filename", "image", "path", "img_path", "Image Name", "file", "FILE_NAME", "image_id")
LABEL_HEADERS = ("label", "class", "category", "target", "Label", "damage", "classes", "Klasse")
BOX_HEADERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("x", "y", "w", "h"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
)
FOLDERS = ("", "images/", "data/imgs/", "image_224X224/")
SPELLINGS = {
    "train": ("train", "Train", "training"),
    "val": ("val", "valid", "dev"),
    "test": ("test", "TEST"),
}


def draw_table(tree: Tree) -> None:
    """Draw a table of labels of images: one, several, or columns of 0 and 1."""
    kind = tree.choice(("one", "one", "flags", "flags", "list", "tags"))
    labels = tree.draw_labels()
    if kind != "one":
        labels = tuple(
            name for name in labels if name not in ("nan", "null", "true", "none", "no", "yes", "1e3")
        )
        # Columns of 0 and 1 have words as headers.
        tree.labels = labels = (
            ("crack", "inactive", "dent") if len(labels) < 2 or labels[0].isdecimal() else labels
        )
    tree.tasks = ("classification",) if kind == "one" else ("multilabel",)
    rows: list[dict[str, str]] = []
    path_header, label_header = tree.choice(PATH_HEADERS), tree.choice(LABEL_HEADERS)
    if labels[0].isdecimal():  # 0 and 1 below a word are whether an image has it
        label_header = "class"
    separator = tree.choice(("|", "|", ";", ", "))
    parts = _draw_images(tree, tree.choice((4, 6, 9)))
    for number, image in enumerate(tree.images):
        if kind == "one":
            image.labels = [labels[number % len(labels)]]
            cells = {label_header: image.labels[0]}
        else:
            image.labels = [name for i, name in enumerate(labels) if number == i or tree.chance(0.3)]
            if kind == "flags":
                one, zero = ("1", "0")
                cells = {name: one if name in image.labels else zero for name in labels}
            elif kind == "list":
                if any(c in name for name in labels for c in separator):
                    separator = "|"
                cells = {"labels": separator.join(image.labels)}
            else:
                cells = {
                    f"label_{i + 1}": n for i, n in enumerate([*image.labels, "", "", ""][: len(labels)])
                }
        rows.append({path_header: image.path} | cells)
    if kind == "one":
        used = {i.labels[0] for i in tree.images}
        if len(used) < 2:
            tree.may_refuse.append("one label")
        if any(set(name) & set("|;[{") for name in used):
            tree.may_refuse.append("label with a separator")
        if used <= {"nan", "null", "true", "none", "no", "yes", "ok", "1e3", "010", "1_0", "0", "1"}:
            tree.may_refuse.append("labels like values")
    if kind in ("list", "tags"):
        tree.may_refuse += ["one label per line"] if all(len(i.labels) < 2 for i in tree.images) else []
        if label_header == "classes":
            tree.tasks = ("multilabel", "classification")
    _write_tables(tree, rows, path_header, parts)
    tree.other_files()


def draw_box_table(tree: Tree) -> None:
    """Draw a table with one line per box."""
    tree.draw_labels()
    path_header, label_header = tree.choice(PATH_HEADERS), tree.choice(LABEL_HEADERS[:6])
    box_headers = tree.choice(BOX_HEADERS)
    with_size = tree.chance(0.4)
    parts = _draw_images(tree, tree.choice((4, 6)))
    rows: list[dict[str, str]] = []
    one_each = tree.chance(0.3)
    for image in tree.images:
        tree.draw_objects(image, most=1 if one_each else 3)
        if not image.objects:
            image.annotated = tree.chance(0.5)  # an image without objects has a line of blank cells, or none
        boxes: list[Any] = image.objects if image.objects or not image.annotated else [("", ("", "", "", ""))]
        for label, (x1, y1, x2, y2) in boxes:
            numbers = (x1, y1, x2, y2)
            if box_headers[2] in ("w", "bbox_width") and label:
                numbers = (x1, y1, x2 - x1, y2 - y1)
            row = {path_header: image.path}
            row |= {"width": str(image.size_wh[0]), "height": str(image.size_wh[1])} if with_size else {}
            row |= {label_header: label} | dict(zip(box_headers, map(str, numbers), strict=True))
            rows.append(row)
    has_one_each = all(len(i.objects) == 1 for i in tree.images if i.annotated)
    tree.tasks = ("localization",) if has_one_each else ("detection",)
    if tree.odd("shuffled lines", 0.3):
        tree.rng.shuffle(rows)
    _write_tables(tree, rows, path_header, parts)
    tree.other_files()


def _draw_images(tree: Tree, count: int) -> str:
    """Add images, and return how their splits are stated: "", "column", "tables" or "folders"."""
    style: str = tree.choice(("", "", "column", "tables", "folders"))
    folder = tree.choice(FOLDERS)
    for number, name in enumerate(tree.names(count)):
        split = SPLITS[number % 3 if number > 3 else number % 2] if style else None
        below = f"{'valid' if split == 'val' else split}/" if style == "folders" else folder
        tree.image(f"{below}{name}", split)
    return style


def _write_tables(tree: Tree, rows: list[dict[str, str]], path_header: str, style: str) -> None:
    by_path = {image.path: image for image in tree.images}
    paths = tree.choice(("whole", "whole", "name", "windows", "dot", "foreign", "other folder", "no suffix"))
    if paths != "whole":
        tree.oddities.append(f"paths: {paths}")
    if paths == "no suffix":
        tree.may_refuse.append("names without suffix")
    split_header = tree.choice(("split", "Set", "subset"))
    index = tree.odd("index column", 0.2)
    extra = tree.odd("column of notes", 0.2, may_refuse="Klasse" in rows[0])
    for number, row in enumerate(rows):
        image = by_path[row[path_header]]
        if style == "column":
            row[split_header] = tree.choice(SPELLINGS[image.split])
        if index:
            row = rows[number] = {tree.choice(("",)): str(number)} | row
        if extra:
            row["photographed at"] = f"2024-01-{number % 28 + 1:02d} 12:00"
        row[path_header] = _written(image, paths)
    dialect = tree.choice((",", ",", ",", ";", "\t"))
    suffix = ".tsv" if dialect == "\t" and tree.chance(0.5) else tree.choice((".csv", ".csv", ".CSV"))
    quoting: Any = csv.QUOTE_ALL if tree.chance(0.2) else csv.QUOTE_MINIMAL
    end = tree.choice(("\n", "\n", "\r\n"))
    encoding = tree.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16"))

    def write(name: str, part: list[dict[str, str]]) -> None:
        out = io.StringIO()
        writer = csv.DictWriter(out, list(part[0]), delimiter=dialect, quoting=quoting, lineterminator=end)
        writer.writeheader()
        writer.writerows(part)
        tree.write(name, (out.getvalue() + (end if tree.chance(0.1) else "")).encode(encoding))

    if style in ("tables", "folders"):
        images = {_written(i, paths): i for i in tree.images}
        for split in SPLITS:
            part = [r for r in rows if images[r[path_header]].split == split]
            if part:
                folder = "valid" if split == "val" else split
                name = f"{folder}/_annotations{suffix}" if style == "folders" else f"{split}{suffix}"
                write(name, part)
    else:
        write(tree.choice(("labels", "annotations", "data", "my table")) + suffix, rows)


def _written(image: TreeImage, paths: str) -> str:
    return {
        "whole": image.path,
        "name": image.name,
        "windows": image.path.replace("/", "\\"),
        "dot": f"./{image.path}",
        "foreign": f"/home/me/cars/{image.path}",
        "other folder": f"image/{image.name}",
        "no suffix": image.path.rpartition(".")[0],
    }[paths]
