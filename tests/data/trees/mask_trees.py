"""Draw images with semantic masks, next to them or in folders of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from tests.data.trees.annotation_tree import SPLITS, Tree

# Folder of the images, folder of the masks, ending of a mask's stem; {f} is the folder name of a split.
WHOLE = (
    ("images/", "masks/", ""),
    ("images/", "masks/", "_mask"),
    ("img/", "gt/", ""),
    ("Images/", "Labels/", ""),
    ("", "", "_mask"),
    ("JPEGImages/", "SegmentationClass/", ""),
    ("input/", "target/", ""),
    ("images/", "annotations/", ""),
)
PER_SPLIT = (
    ("{f}/images/", "{f}/masks/", ""),
    ("images/{f}/", "masks/{f}/", ""),
    ("{f}_images/", "{f}_masks/", ""),
    ("{f}_img/", "{f}_lab/", ""),
)
SPELLINGS = (("train", "val", "test"), ("train", "valid", "test"))


def draw_masks(tree: Tree) -> None:
    """Draw masks of one value, or of one value per label with a file of names."""
    parts: dict[str | None, Any] = {None: tree.choice(WHOLE)}
    if tree.chance(0.4):
        spelling, layout = tree.choice(SPELLINGS), tree.choice(PER_SPLIT)
        parts = {
            split: tuple(p.format(f=spelling[i]) for p in layout)
            for i, split in enumerate(SPLITS[: tree.choice((2, 3))])
        }
    tree.tasks = ("segmentation",)
    several = tree.chance(0.5)
    has_names = several and tree.chance(0.7)
    values = {"object": tree.choice((255, 1, 128))}
    if several:
        names = ("dent", "scratch", "broken glass") if has_names else ("1", "2", "3")
        values = {name: i for i, name in enumerate(names, 1)}
    tree.labels = tuple(values)
    if has_names:
        first = tree.choice((["background"], ["_background_"], []))
        tree.write(tree.choice(("classes.txt", "labels.txt")), "\n".join([*first, *tree.labels]) + "\n")
    taken = tree.names(20)
    for number, (split, (images, masks, ending)) in enumerate(parts.items()):
        for name in taken[5 * number : 5 * number + tree.choice((2, 3, 4))]:
            image = tree.image(f"{images}{name}", split)
            if len(tree.images) > 3 and images != masks and tree.odd("image without mask", 0.06):
                image.annotated = False
                continue
            width, height = image.size_wh
            pixels = np.zeros((height, width), np.uint8)
            position = len(tree.images) - 1
            for column in range(3 if position < 3 else tree.rng.randint(0, 3)):  # apart, so that none touch
                x1, x2 = 1 + column * (width // 3), (column + 1) * (width // 3) - 2
                y1 = tree.rng.randint(1, height - 12)
                y2 = tree.rng.randint(y1 + 4, height - 2)
                label = tree.labels[(position + column) % len(tree.labels)]
                pixels[y1:y2, x1:x2] = values[label]
                image.objects.append((label, (x1, y1, x2, y2)))
            place = tree.root / f"{masks}{image.stem}{ending}{tree.choice(('.png', '.png', '.bmp', '.tif'))}"
            place.parent.mkdir(parents=True, exist_ok=True)
            drawn = Image.fromarray(pixels)
            if several and place.suffix == ".png" and tree.chance(0.4):
                drawn = _with_palette(pixels)
            drawn.save(place)
    tree.other_files()


def _with_palette(pixels: np.ndarray) -> Image.Image:
    """Return a mask whose values are positions in a palette, as VOC's are."""
    out = Image.frombytes("P", pixels.shape[::-1], pixels.tobytes())
    out.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * 756)
    return out
