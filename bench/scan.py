"""Compare `blemish data check --fast` with Ultralytics on a folder of YOLO images.

    python bench/scan.py [--images 3000] [--peer-python PYTHON_WITH_ULTRALYTICS]

Synthetic images of 1280 x 960, one in 24 as PNG, are copied, and faults are planted in some. Duplicates and
full decoding are off on both sides, imports are not counted, and each side has its own folder, because
Ultralytics repairs files in place. The targets are twice the speed cold and the same speed cached, with at
least the same faults found; ten times the images should take at most eleven times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from blemish.data.audit import check
from blemish.data.synthetic import panels, save_image

LABELS = ("dent", "scratch", "chip")
ORIGINALS = 24
SIZE_HW = (960, 1280)
PEER = Path(__file__).parent / "peers" / "scan_ultralytics.py"


def write_set(root: Path, count: int, *, link: bool) -> None:
    """Write a data set of `count` images, each a copy of one of a few synthetic images."""
    images, labels = root / "images", root / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    originals = []
    for number, specimen in enumerate(panels(ORIGINALS, 5, size_hw=SIZE_HW)):
        path = root / f"drawn{number}{'.png' if number % 24 == 7 else '.jpg'}"
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


def ours(root: Path, cache: Path) -> tuple[float, float, float, set[str]]:
    """Seconds cold, of the processor, and cached; and the images that have a finding."""
    os.environ["BLEMISH_CACHE"] = str(cache)
    cold, spent, cached = [], [], []
    found = None
    for _ in range(3):
        shutil.rmtree(cache, ignore_errors=True)
        started, processor = time.perf_counter(), time.process_time()
        found = check(root, duplicates=False)
        cold.append(time.perf_counter() - started)
        spent.append(time.process_time() - processor)
    for _ in range(5):
        started = time.perf_counter()
        found = check(root, duplicates=False)
        cached.append(time.perf_counter() - started)
    assert found is not None
    names = {f.path.name for f in found if f.path is not None and f.severity != "note"}
    return min(cold), min(spent), min(cached), names


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--peer-python", default=sys.executable)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_set(root / "ours", arguments.images, link=False)
        planted = plant(root / "ours")
        cold, spent, cached, names = ours(root / "ours", root / "cache")
        runs = []
        for run in range(3):
            shutil.copytree(root / "ours", root / f"theirs{run}")
            answer = subprocess.run(
                [arguments.peer_python, str(PEER), str(root / f"theirs{run}"), str(len(LABELS))],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            runs.append(json.loads(answer.stdout.splitlines()[-1]))
            shutil.rmtree(root / f"theirs{run}")
        shutil.rmtree(root / "ours")
        theirs = {Path(p).name for p in runs[0]["faulty"]}
        print(f"{arguments.images} images of {SIZE_HW[1]} x {SIZE_HW[0]}, {len(planted)} faults planted")
        print(f"{'':24}{'blemish':>12}{'ultralytics':>14}{'ratio':>8}")
        peer_cold, peer_spent, peer_cached = (
            min(r[k] for r in runs) for k in ("cold", "processor", "cached")
        )
        print(f"{'cold, seconds':24}{cold:>12.3f}{peer_cold:>14.3f}{peer_cold / cold:>8.2f}")
        print(f"{'cold, of the processor':24}{spent:>12.3f}{peer_spent:>14.3f}{peer_spent / spent:>8.2f}")
        print(f"{'cached, seconds':24}{cached:>12.4f}{peer_cached:>14.4f}{peer_cached / cached:>8.2f}")
        print(
            f"{'planted faults found':24}{len(names & planted.keys()):>12}{len(theirs & planted.keys()):>14}"
        )
        for title, group in (("only blemish", names - theirs), ("only ultralytics", theirs - names)):
            if group:
                print(f"{title}: {sorted({planted.get(n, n) for n in group})}")
        times = []
        for count in (arguments.images, 10 * arguments.images):
            write_set(root / f"grown{count}", count, link=True)
            os.environ["BLEMISH_CACHE"] = ""
            took = []
            for _ in range(2):
                started = time.process_time()
                check(root / f"grown{count}", duplicates=False)
                took.append(time.process_time() - started)
            times.append(min(took))
            shutil.rmtree(root / f"grown{count}")
        print(
            f"ten times the images take {times[1] / times[0]:.2f} times as long ({times[0]:.2f} s,"
            f" {times[1]:.2f} s)"
        )


if __name__ == "__main__":
    main()
