"""Draw VOC data sets: Annotations next to JPEGImages, in any letter case, flat, in years or in splits."""

from __future__ import annotations

from xml.sax.saxutils import escape

from tests.data.trees.annotation_tree import SPLITS, Tree, TreeImage

# Folders of images and of XML files; {f} is the folder name of a split.
WHOLE = (
    ("JPEGImages/", "Annotations/"),
    ("images/", "annotations/"),
    ("IMAGES/", "ANNOTATIONS/"),
    ("images/", "xmls/"),
    ("", ""),
    ("images/", "labels/"),
    ("VOCdevkit/VOC2012/JPEGImages/", "VOCdevkit/VOC2012/Annotations/"),
    ("VOC2007/JPEGImages/", "VOC2007/Annotations/"),
    ("image/", "Annotation/"),
    ("", "Annotations/"),
)
PER_SPLIT = (
    ("{f}/", "{f}/"),
    ("{f}/images/", "{f}/annotations/"),
    ("{f}/JPEGImages/", "{f}/Annotations/"),
    ("JPEGImages/{f}/", "Annotations/{f}/"),
    ("images/{f}/", "annotations/{f}/"),
    ("{f}/IMAGES/", "{f}/ANNOTATIONS/"),
)
SPELLINGS = (("train", "val", "test"), ("train", "validation", "test"), ("Train", "Valid", "Test"))


def draw_voc(tree: Tree) -> None:
    """Draw boxes in XML, counted from 1 as in VOC or from 0 as other tools do."""
    tree.draw_labels()
    tree.tasks = ("detection",)
    parts: dict[str | None, tuple[str, str]] = {None: tree.choice(WHOLE)}
    if tree.chance(0.4):
        spelling, layout = tree.choice(SPELLINGS), tree.choice(PER_SPLIT)
        parts = {
            split: tuple(p.format(f=spelling[i]) for p in layout)
            for i, split in enumerate(SPLITS[: tree.choice((2, 3))])
        }
    from_zero = tree.odd("pixels from 0", 0.3)
    doubled = tree.odd("doubled suffix", 0.1)
    by_label = None in parts and parts[None][0].casefold() == "images/" and tree.odd("images by label", 0.2)
    taken = tree.names(20)
    listed: dict[str, list[str]] = {}
    has_lists = None in parts and parts[None][1].endswith("Annotations/") and tree.chance(0.5)
    for number, (split, (images, labels)) in enumerate(parts.items()):
        for name in taken[5 * number : 5 * number + tree.choice((2, 3, 4))]:
            below = f"{tree.choice(('a', 'b'))}/" if by_label else ""
            image = tree.image(f"{images}{below}{name}", split)
            if has_lists:
                image.split = tree.choice(SPLITS)
                listed.setdefault(image.split, []).append(image.stem)
            if len(tree.images) > 2 and not has_lists and tree.odd("image without XML", 0.06):
                image.annotated = False
                continue
            tree.draw_objects(image, low=0 if from_zero else 1)
            if from_zero and len(tree.images) == 1:  # so that it shows
                image.objects[0] = (image.objects[0][0], (0, *image.objects[0][1][1:]))
            _write_xml(tree, image, f"{labels}{image.name if doubled else image.stem}.xml", from_zero)
    for split, stems in listed.items():
        text = "".join(f"{stem}\n" for stem in stems)
        tree.write(f"{parts[None][1].removesuffix('Annotations/')}ImageSets/Main/{split}.txt", text)
    if tree.odd("XML without image", 0.08, may_refuse=True):
        gone = TreeImage(f"{next(iter(parts.values()))[0]}gone.jpg", (48, 36), None)
        gone.objects.append((tree.labels[0], (2, 2, 9, 9)))
        _write_xml(tree, gone, f"{next(iter(parts.values()))[1]}gone.xml", from_zero)
    if tree.odd("other label files next to it", 0.1) and None in parts:
        tree.write("labels/readme.txt", "classes are in the XML files\n")
    tree.other_files()


def _write_xml(tree: Tree, image: TreeImage, file: str, from_zero: bool) -> None:
    width, height = image.size_wh
    shift = 0 if from_zero else 1
    name = tree.choice((image.name, image.name, f"C:\\x\\{image.name}", image.stem, ""))
    lines = ["<annotation>", "<folder>x</folder>", f"<filename>{escape(name)}</filename>"]
    if tree.chance(0.8):
        lines.append(f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for label, (x1, y1, x2, y2) in image.objects:
        corners = {"xmin": x1 + shift, "ymin": y1 + shift, "xmax": x2, "ymax": y2}
        order = ("xmin", "ymin", "xmax", "ymax") if tree.chance(0.7) else ("xmax", "xmin", "ymax", "ymin")
        text = "".join(f"<{c}>{corners[c]}{'.0' if tree.chance(0.2) else ''}</{c}>" for c in order)
        flags = "<truncated>0</truncated><difficult>0</difficult>" if tree.chance(0.5) else ""
        lines.append(f"<object><name>{escape(label)}</name>{flags}<bndbox>{text}</bndbox></object>")
    end = "\r\n" if tree.chance(0.1) else "\n"
    head = '<?xml version="1.0" encoding="UTF-8"?>' + end if tree.chance(0.3) else ""
    tree.write(file, head + end.join([*lines, "</annotation>"]) + end)
