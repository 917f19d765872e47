"""Draw YOLO data sets: with and without data.yaml, in every nesting of images and labels."""

from __future__ import annotations

from typing import Any

import yaml
from tests.data.trees.annotation_tree import SPLITS, Tree, TreeImage

# Folders of images and of label files; {f} is the folder name of a split.
PER_SPLIT = (
    ("images/{f}/", "labels/{f}/"),
    ("{f}/images/", "{f}/labels/"),
    ("{f}/Images/", "{f}/Labels/"),
    ("IMAGES/{f}/", "LABELS/{f}/"),
    ("{f}/", "{f}/"),
)
WHOLE = (
    ("images/", "labels/"),
    ("Images/", "labels/"),
    ("IMAGES/", "LABELS/"),
    ("", ""),
    ("data/images/", "data/labels/"),
)
SPELLINGS = (("train", "val", "test"), ("train", "valid", "test"), ("Train", "Val", "Test"))


def draw_yolo(tree: Tree) -> None:
    """Draw boxes or outlines in fractions of the image."""
    names = tree.draw_labels()
    kind = tree.choice(("boxes", "boxes", "boxes", "outlines", "mixed"))
    tree.tasks = ("detection",) if kind == "boxes" else ("segmentation",)
    tree.tolerance = 0.05
    spelling = tree.choice(SPELLINGS)
    parts: dict[str | None, tuple[str, str]] = {None: tree.choice(WHOLE)}
    if tree.chance(0.6):
        layout = tree.choice(PER_SPLIT)
        parts = {
            split: tuple(p.format(f=spelling[i]) for p in layout)
            for i, split in enumerate(SPLITS[: tree.choice((2, 3))])
        }
    if None in parts and parts[None][0].startswith("data/"):
        tree.may_refuse.append("inside another folder")
    has_yaml = None not in parts and tree.chance(0.7)
    outlined: list[bool] = []
    taken = tree.names(20)
    in_subfolders = tree.odd("images in subfolders", 0.1)
    crlf = tree.odd("lines end with CR LF", 0.1)
    for number, (split, (images, labels)) in enumerate(parts.items()):
        for name in taken[5 * number : 5 * number + tree.choice((2, 3, 4))]:
            below = tree.choice(("cam 1/", "cam2/")) if in_subfolders and images != labels else ""
            image = tree.image(f"{images}{below}{name}", split)
            kind_of_file = _write_labels(
                tree, image, kind, f"{labels}{below}{image.stem}.txt", outlined, crlf
            )
            image.annotated = kind_of_file
    if kind != "boxes" and not any(outlined):
        tree.tasks = ("detection", "segmentation")
    if not any(i.objects for i in tree.images):
        tree.may_refuse.append("no object")
    if not has_yaml or tree.chance(0.3):
        _write_names(tree, parts, has_yaml)
    if has_yaml:
        _write_yaml(tree, parts, names)
    if tree.odd("label file without image", 0.1):
        tree.write(f"{next(iter(parts.values()))[1]}gone.txt", "0 0.5 0.5 0.1 0.1\n")
    tree.other_files()


def _write_labels(
    tree: Tree, image: TreeImage, kind: str, file: str, outlined: list[bool], crlf: bool
) -> bool:
    """Write the label file of an image, and return whether there is one."""
    if len(tree.images) > 2 and tree.odd("image without label file", 0.05):
        return False
    tree.draw_objects(image)
    lines = []
    width, height = image.size_wh
    for label, (x1, y1, x2, y2) in image.objects:
        index = tree.labels.index(label)
        has_outline = kind == "outlines" or (kind == "mixed" and tree.chance(0.5))
        outlined.append(has_outline)
        if has_outline:
            points = [(x1, y1), (x2, y1), (x2, y2), ((x1 + x2) / 2, y2), (x1, y2)]
            numbers = [v / side for point in points for v, side in zip(point, (width, height), strict=True)]
        else:
            center = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
            numbers = [*center, (x2 - x1) / width, (y2 - y1) / height]
        lines.append(" ".join([str(index), *(f"{v:.6f}" for v in numbers)]))
    if tree.odd("blank lines", 0.05):
        lines = ["", *lines, "  "]
    end = "\r\n" if crlf else "\n"
    tree.write(file, end.join(lines) + (end if lines and tree.chance(0.7) else ""))
    return True


def _write_names(tree: Tree, parts: dict[Any, tuple[str, str]], has_yaml: bool) -> None:
    """Write the names of the labels, or none, so that they are numbers."""
    images, labels = next(iter(parts.values()))
    places = ("", "", labels, images) if not has_yaml else ("",)
    if not has_yaml and images != labels and tree.odd("no names", 0.15):
        used = [tree.labels.index(o[0]) for i in tree.images for o in i.objects]
        for image in tree.images:
            image.objects = [(str(tree.labels.index(label)), box) for label, box in image.objects]
        tree.labels = tuple(str(i) for i in range(max(used, default=0) + 1))
        return
    end = "\r\n" if tree.chance(0.2) else "\n"
    tree.write(
        tree.choice(places) + tree.choice(("classes.txt", "obj.names", "classes.txt")),
        ("\ufeff" if tree.odd("byte order mark", 0.1) else "") + end.join(tree.labels) + end,
    )


def _write_yaml(tree: Tree, parts: dict[Any, tuple[str, str]], names: tuple[str, ...]) -> None:
    """Write data.yaml as Ultralytics, Roboflow or a colleague would."""
    style = tree.choice(
        ("relative", "relative", "roboflow", "foreign", "path", "path elsewhere", "windows", "lists")
    )
    content: dict[str, Any] = {}
    if style == "path":
        content["path"] = tree.choice((".", "./", str(tree.root)))
    elif style == "path elsewhere":
        content["path"] = tree.choice(
            ("/content/datasets/cars", "../datasets/cars", "C:\\cars", tree.root.name)
        )
    for split, (images, _) in parts.items():
        key = tree.choice(("val", "valid")) if split == "val" and style == "roboflow" else split
        folder = images.rstrip("/")
        if style == "lists":
            file = f"{split}_images.txt"
            listed = [i.path for i in tree.images if i.split == split]
            tree.write(file, "".join(tree.choice(("./", "")) + f"{p}\n" for p in listed))
            content[key] = file
            continue
        content[key] = {
            "roboflow": f"../{folder}",
            "foreign": f"/home/me/cars/{folder}",
            "windows": f"C:\\cars\\{folder}".replace("/", "\\"),
        }.get(style, tree.choice((folder, f"./{folder}", f"{folder}/")))
    if style == "roboflow" and "test" not in parts:
        content["test"] = "../test/images"
    if style not in ("relative", "path"):
        tree.oddities.append(f"data.yaml: {style}")
    if tree.chance(0.6):
        content["nc"] = len(names)
    content["names"] = list(names) if tree.chance(0.5) else dict(enumerate(names))
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=tree.chance(0.5))
    plain = all(name.replace("_", "").isalnum() for name in names)
    if plain and tree.odd("names without quotes", 0.3):
        rest = {k: v for k, v in content.items() if k != "names"}
        text = yaml.safe_dump(rest, sort_keys=False) + f"names: [{', '.join(names)}]\n"
    tree.write(tree.choice(("data.yaml", "data.yaml", "data.yml", "dataset.yaml", "cars.yaml")), text)
