"""`blemish data check --fast` on a folder that it has not seen, against Ultralytics' own verification."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.pictures import MEGAPIXELS_12, photo, save_jpeg
from bench.row import Contest, Cost, Row, Setting, run_quietly
from blemish.data.audit import check
from blemish.data.synthetic import panels, save_image

LABELS = ("dent", "scratch", "chip")
ORIGINALS = 24
PHONES = 6  # one of this many images has 12 megapixels
SIZE_HW = (640, 640)
IMAGES = 1500
PEER = Path(__file__).parents[1] / "peers" / "scan_ultralytics.py"


def write_set(root: Path, count: int, *, link: bool) -> None:
    """Write a data set of `count` images, each a copy of one of a few synthetic images."""
    images, labels = root / "images", root / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    originals = []
    for number, specimen in enumerate(panels(ORIGINALS, 5, size_hw=SIZE_HW)):
        path = root / f"drawn{number}{'.png' if number % 24 == 7 else '.jpg'}"
        if number % PHONES == 0:
            save_jpeg(photo(number, MEGAPIXELS_12), path)
        else:
            save_image(specimen.image, path)
        boxes = specimen.ground_truth.boxes_xyxy / [SIZE_HW[1], SIZE_HW[0], SIZE_HW[1], SIZE_HW[0]]
        lines = [
            f"{label} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"
            for label, (x1, y1, x2, y2) in zip(
                specimen.ground_truth.label_index.tolist(), boxes.tolist(), strict=True
            )
        ]
        originals.append((path, "".join(f"{line}\n" for line in lines)))
    for number in range(count):
        path, text = originals[number % ORIGINALS]
        target = images / f"{number:06d}{path.suffix}"
        if link and number >= ORIGINALS:
            os.link(path, target)
        else:
            shutil.copyfile(path, target)
        (labels / f"{number:06d}.txt").write_text(text)
    for path, _ in originals:
        path.unlink()
    names = "\n".join(f"  {i}: {n}" for i, n in enumerate(LABELS))
    (root / "data.yaml").write_text(f"path: .\ntrain: images\nnames:\n{names}\n")


def plant(root: Path) -> dict[str, str]:
    """Faults among the first images: what was done, by file name."""
    images = sorted((root / "images").iterdir())
    jpegs = [p for p in images if p.suffix == ".jpg"][40:]
    pngs = [p for p in images if p.suffix == ".png"][5:]
    planted = {}

    def image(path: Path, what: str, data: bytes) -> None:
        path.unlink()  # it may be a link
        path.write_bytes(data)
        planted[path.name] = what

    for k in range(3):
        image(jpegs[k], "empty", b"")
        image(jpegs[10 + k], "cut short", jpegs[10 + k].read_bytes()[: -5000 * (k + 1)])
        image(jpegs[20 + k], "no image", b"<html>404</html>")
        image(pngs[k], "cut short", pngs[k].read_bytes()[:-300])
        data = bytearray(pngs[10 + k].read_bytes())
        data[len(data) // 2] ^= 0x55
        image(pngs[10 + k], "checksum", bytes(data))
    lines = {
        "four numbers": "0 0.5 0.5 0.1\n",
        "words": "dent 0.5 0.5 0.1 0.1\n",
        "label 9": "9 0.5 0.5 0.1 0.1\n",
        "pixels": "0 640 480 100 100\n",
        "outside": "0 1.2 0.5 0.1 0.1\n",
        "negative": "0 0.5 0.5 -0.2 0.1\n",
        "half a label": "0.5 0.5 0.5 0.1 0.1\n",
        "twice": "1 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n",
        "mixed": "1 0.5 0.5 0.1 0.1\n1 0.1 0.1 0.2 0.1 0.2 0.2\n",
    }
    for k, (what, text) in enumerate(lines.items()):
        for path in jpegs[30 + 3 * k : 33 + 3 * k]:
            (root / "labels" / f"{path.stem}.txt").write_text(text)
            planted[path.name] = what
    return planted


def copy_set(source: Path, target: Path, planted: Mapping[str, str]) -> None:
    """Copy a data set, with links to the images that nothing repairs."""

    def copy(path: str, place: str) -> None:
        (shutil.copyfile if Path(path).name in planted else os.link)(path, place)

    shutil.copytree(source, target, copy_function=copy)


def scan(setting: Setting) -> Contest:
    """Return the sides; each has a folder of its own, because Ultralytics repairs files in place."""
    python = setting.python("ultralytics")
    root, cache = setting.folder, setting.folder / "cache"
    write_set(root / "ours", IMAGES, link=True)
    planted = plant(root / "ours")
    copy_set(root / "ours", root / "pristine", planted)
    found: dict[str, set[str]] = {}

    def ours() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        findings = check(root / "ours", duplicates=False)
        found["ours"] = {f.path.name for f in findings if f.path is not None and f.severity != "note"}

    def theirs() -> Cost:
        shutil.rmtree(root / "theirs", ignore_errors=True)
        copy_set(root / "pristine", root / "theirs", planted)
        command = [python, str(PEER), str(root / "theirs"), str(len(LABELS))]
        result = json.loads(run_quietly(command, setting.environment()).splitlines()[-1])
        found["theirs"] = {Path(path).name for path in result["faulty"]}
        return Cost(result["processor"] / IMAGES, result["cold"] / IMAGES)

    ours()
    theirs()
    ours_found, theirs_found = (len(found[side] & planted.keys()) for side in ("ours", "theirs"))
    accuracy = f"{ours_found} and {theirs_found} of {len(planted)} planted faults found"
    sides = {"blemish data check": ours, "Ultralytics' verify_image_label": theirs}
    return Contest("blemish data check", sides, IMAGES, accuracy)


ROWS = (
    Row(
        "folder-scan", f"checking {IMAGES} images without a cache, 5 of 6 of 640 px, 1 of 12 megapixels",
        "Ultralytics' verify_image_label", 3, scan, needs=("ultralytics",),
        explanation="The profile has no dominant part, and is of the main thread: reading headers on other "
        "threads counts as waiting. The set mixes boxes and outlines on purpose (a planted fault), so that "
        "every box becomes a mask object as in a training set, which the peer does not build: it checks "
        "numbers only. Its remaining costs were not analyzed.",
    ),
)  # fmt: skip
