"""`Tree`: a folder of images and annotations that is being drawn, with the ground truth it is drawn from."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

SIZES_WH = ((48, 36), (64, 64), (37, 53), (120, 80))
SUFFIXES = (".jpg", ".jpg", ".jpg", ".png", ".JPG", ".jpeg", ".bmp", ".webp", ".tif", ".PNG")
SAVED_AS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF"}
ORIENTATION = 0x0112  # the EXIF tag
SPLITS = ("train", "val", "test")

LABELS = (
    ("dent", "scratch"),
    ("crack", "dent", "scratch"),
    ("F_Breakage", "F_Normal", "R_Normal"),
    ("broken glass", "flat tyre"),
    ("Kratzer", "Beule größer", "凹み"),
    ("dent", "Dent big", "dents-2"),
    ("a&b <c>", "it's", 'the "x"'),
    ("ok", "defect", "no", "yes"),
    ("none", "dent"),
    ("good", "crack"),
    ("1", "2", "10"),
    ("0", "1"),
    ("nan", "null", "true"),
    ("010", "1_0", "1e3"),
    ("D00", "D10", "D40"),
    ("only",),
)


class ImagePool:
    """Image files by size, format and EXIF orientation, written once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[tuple[tuple[int, int], str, int], Path] = {}

    def file(self, size_wh: tuple[int, int], suffix: str, orientation: int = 1) -> Path:
        """Return an image whose upright size is `size_wh`."""
        key = (size_wh, suffix, orientation)
        if key not in self._files:
            stored_wh = size_wh[::-1] if orientation > 4 else size_wh
            image = Image.new("RGB", stored_wh, (90 + len(self._files) % 100, 120, 150))
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            path = self._root / f"{len(self._files)}{suffix}"
            image.save(path, SAVED_AS[suffix], **({"exif": exif} if orientation != 1 else {}))
            self._files[key] = path
        return self._files[key]


@dataclass
class TreeImage:
    """One image of a tree.

    Attributes:
        path: below the data set's folder, with forward slashes.
        size_wh: upright width and height in pixels.
        split: train, val, test or None.
        labels: of the whole image.
        objects: label and x1 y1 x2 y2 of each, in upright pixels.
        annotated: whether the annotations mention it.
        orientation: of EXIF.
    """

    path: str
    size_wh: tuple[int, int]
    split: str | None
    labels: list[str] = field(default_factory=list)
    objects: list[tuple[str, tuple[float, float, float, float]]] = field(default_factory=list)
    annotated: bool = True
    orientation: int = 1

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """Its file name without extension."""
        return self.name.rpartition(".")[0]


@dataclass
class Tree:
    """A data set that is being drawn.

    Attributes:
        rng: draws everything.
        pool: image files.
        root: the folder of the data set.
        tasks: the names of tasks it may be read for.
        labels: names that may be read; those in use must be.
        images: every image.
        may_refuse: oddities for which a refusal by name is right too.
        oddities: everything unusual, for the message of a failure.
        tolerance: of boxes, in pixels.
        losses: number of annotations that must not be read and must be reported.
    """

    rng: random.Random
    pool: ImagePool
    root: Path
    tasks: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    images: list[TreeImage] = field(default_factory=list)
    may_refuse: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    tolerance: float = 0.02
    losses: int = 0

    def chance(self, share: float) -> bool:
        """Return True with a probability."""
        return self.rng.random() < share

    def odd(self, name: str, share: float = 0.1, *, may_refuse: bool = False) -> bool:
        """Return whether this tree has an oddity, and record it."""
        if not self.chance(share):
            return False
        self.oddities.append(name)
        if may_refuse:
            self.may_refuse.append(name)
        return True

    def choice(self, options):
        """Return one of the options."""
        return self.rng.choice(options)

    def write(self, name: str, text: str | bytes, encoding: str = "utf-8") -> Path:
        """Write a file below the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    def image(self, path: str, split: str | None = None, *, orientation: int = 1) -> TreeImage:
        """Link an image of a random size to a path below the root, and record it."""
        size_wh = self.choice(SIZES_WH)
        suffix = "." + path.rpartition(".")[2].casefold()
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(self.pool.file(size_wh, suffix, orientation), place)
        drawn = TreeImage(path, size_wh, split, orientation=orientation)
        self.images.append(drawn)
        return drawn

    def draw_labels(self) -> tuple[str, ...]:
        """Choose and record the labels."""
        self.labels = self.choice(LABELS)
        return self.labels

    def names(self, count: int, *, suffix: str | None = None) -> list[str]:
        """Return file names, unique also without extension and in lower case."""
        style = self.rng.randrange(7)
        patterns = (
            "img_{:04d}",
            "IMG {:d} (copy)",
            "Foto_ä{:d}",
            "{:d}",
            "2024-01-09_13.52.{:d}",
            "a{:d}_jpg.rf.0f3c",
            "car#{:d}+b,c",
        )
        start = self.rng.choice((0, 1, 7, 100))
        if style in (1, 2, 6):
            self.oddities.append("odd names")
        return [
            patterns[style].format(start + i) + (suffix or self.rng.choice(SUFFIXES)) for i in range(count)
        ]

    def draw_box(self, size_wh: tuple[int, int], low: int = 1) -> tuple[float, float, float, float]:
        """Return a box inside an image, corners on whole pixels."""
        width, height = size_wh
        x1, y1 = self.rng.randint(low, width - 8), self.rng.randint(low, height - 8)
        return (x1, y1, self.rng.randint(x1 + 4, width - 1), self.rng.randint(y1 + 4, height - 1))

    def draw_objects(self, image: TreeImage, most: int = 3, low: int = 1) -> None:
        """Add objects with distinct boxes; the first images have at least one, of one label each."""
        position = next(i for i, other in enumerate(self.images) if other is image)
        count = self.rng.randint(0 if position > 1 else 1, most)
        boxes = {self.draw_box(image.size_wh, low) for _ in range(count)}
        for number, box in enumerate(sorted(boxes)):
            first = position < len(self.labels) and number == 0
            label = self.labels[position] if first else self.choice(self.labels)
            image.objects.append((label, box))

    def other_files(self) -> None:
        """Add files that are no part of a data set."""
        if self.odd("README", 0.2):
            self.write(self.choice(("README.md", "readme.txt", "README.dataset.txt")), "# data\nexported\n")
        if self.odd("hidden files", 0.2):
            self.write(".DS_Store", b"\0\0\0\1Bud1")
            self.write(".git/config", "[core]\n")
            self.write("__MACOSX/._img_0001.jpg", b"\0\5\x16\7")
        if self.odd("Thumbs.db", 0.1):
            self.write("Thumbs.db", b"\xd0\xcf\x11\xe0")
        if self.odd("stray JSON", 0.15):
            self.write(
                self.choice(("package.json", "camera.json", "notes.json", "config.json")),
                self.choice(
                    ('{"info": {"v": 1}, "categories": []}', "{}", '{"name": "x", "version": "1"}', "[]")
                ),
            )
        if self.odd("license", 0.1):
            self.write("LICENSE", "All rights reserved.\n")
