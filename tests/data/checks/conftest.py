"""Clean data sets of each format, and copies of them to plant faults in."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from blemish.data.synthetic.generate import synthesize

FRACTIONS = {"train": 0.5, "val": 0.5}
BASES = {
    "folders": ("panels", "classification", None),
    "csv": ("cells", "multilabel", None),
    "boxes": ("panels", "detection", None),
    "coco": ("panels", "segmentation", None),
    "voc": ("panels", "detection", None),
    "voc-splits": ("panels", "detection", FRACTIONS),
    "yolo": ("panels", "segmentation", FRACTIONS),
}


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """One clean data set of each format."""
    root = tmp_path_factory.mktemp("bases")
    for name, (kind, task, fractions) in BASES.items():
        form = {"boxes": "csv", "voc-splits": "voc"}.get(name, name)
        synthesize(kind, root / name, task=task, format=form, count=60, seed=4, size=64, fractions=fractions)
    return root


@dataclass
class Planted:
    """A copy of a clean data set, to plant a fault in."""

    root: Path

    def images(self):
        return sorted(p for p in self.root.rglob("*.png"))

    def replace(self, image, name=None, position=3, **save):
        """Replace one image by another; its labels stay."""
        path = self.images()[position]
        image(Image.open(path).convert("RGB")).save(path if name is None else path.with_name(name), **save)
        return path

    def edit(self, pattern, change):
        """Change the first text file that matches; (its path, the number of the first line that differs)."""
        path = sorted(self.root.glob(pattern))[0]
        before = path.read_text("utf-8")
        after = change(before)
        assert after != before
        path.write_text(after, "utf-8")
        lines = zip(before.splitlines() + [""] * 99, after.splitlines(), strict=False)
        return path, next(i for i, (a, b) in enumerate(lines, 1) if a != b)

    def coco(self, change):
        path = self.root / "annotations.json"
        content = json.loads(path.read_text("utf-8"))
        change(content)
        path.write_text(json.dumps(content), "utf-8")
        return path

    def label_of(self, image):
        """The label file of an image in YOLO format."""
        return Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")

    def page_with_box(self):
        """An XML file with boxes beyond the middle of the image, which half the size cannot contain."""
        for path in sorted(self.root.glob("Annotations/*.xml")):
            text = path.read_text()
            if "<object>" in text and max(map(float, re.findall(r"<[xy]max>([\d.]+)<", text))) > 40:
                return path
        raise AssertionError

    def truncate(self, path):
        path.write_bytes(path.read_bytes()[:-400])


@pytest.fixture
def plant(bases, tmp_path):
    def copy(base):
        shutil.copytree(bases / base, tmp_path / base)
        return Planted(tmp_path / base)

    return copy


@pytest.fixture(params=BASES)
def base(request):
    """The name of each clean data set in turn."""
    return request.param
