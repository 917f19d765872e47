"""Measure the search for near duplicates: time, memory, precision and recall on planted copies.

    python bench/duplicates.py [--images 50000] [--planted 2000]

Every image is different: patches of several sizes from its own seed. Some get a copy: resized to 60 %,
recompressed at quality 50, brightened by 20 %, cropped by 10 % at a random position, or mirrored. A reported
pair that was not planted counts against precision. The target is 50,000 images in minutes on two cores in
less than 1 GB.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from blemish.data.duplicates import find_copies, image_signatures

SIZE = (320, 240)
PATCHES = ((6, 4), (14, 3), (40, 2))  # patches per side, and their weight


def synthetic_image(seed: int) -> Image.Image:
    """Return an image that no other seed gives."""
    rng = np.random.default_rng(seed)
    layers = []
    for patches, weight in PATCHES:
        coarse = Image.fromarray(rng.integers(0, 255, (patches, patches), np.uint8))
        layers.append(weight * np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC), np.float32))
    gray = sum(layers) / sum(w for _, w in PATCHES)
    tint = rng.uniform(0.7, 1, 3)
    return Image.fromarray((gray[:, :, None] * tint).astype(np.uint8))


def recompressed(image: Image.Image, _: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    x, y = rng.integers(0, width // 10 + 1), rng.integers(0, height // 10 + 1)
    return image.crop((x, y, x + width * 9 // 10, y + height * 9 // 10))


COPIES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "resized": lambda i, _: i.resize((SIZE[0] * 6 // 10, SIZE[1] * 6 // 10)),
    "recompressed": recompressed,
    "brightened": lambda i, _: ImageEnhance.Brightness(i).enhance(1.2),
    "cropped": cropped,
    "mirrored": lambda i, _: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def write_images(root: Path, count: int, planted: int) -> tuple[list[Path], dict[tuple[int, int], str]]:
    """Write the images; return their paths and the kind of every planted pair."""
    originals = count - planted
    kinds = list(COPIES)
    paths = [root / f"{i:06d}.jpg" for i in range(count)]

    def one(position: int) -> None:
        if position < originals:
            synthetic_image(position).save(paths[position], quality=92)
            return
        source, rng = position - originals, np.random.default_rng(10**9 + position)
        COPIES[kinds[source % len(kinds)]](synthetic_image(source), rng).save(paths[position], quality=90)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(count), chunksize=64))
    return paths, {(k, originals + k): kinds[k % len(kinds)] for k in range(planted)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--planted", type=int, default=2_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths, planted = write_images(Path(folder), arguments.images, arguments.planted)
        started, processor = time.perf_counter(), time.process_time()
        kept = image_signatures(paths)
        opened, opened_processor = time.perf_counter(), time.process_time()
        pairs = find_copies(kept)
        done, done_processor = time.perf_counter(), time.process_time()
    found = {(p.first, p.second) for p in pairs}
    print(f"{len(paths):,} images of {SIZE[0]} x {SIZE[1]}, {len(planted):,} copies planted")
    print(f"{'':12}{'seconds':>10}{'processor':>12}")
    print(f"{'open':12}{opened - started:>10.1f}{opened_processor - processor:>12.1f}")
    print(f"{'compare':12}{done - opened:>10.1f}{done_processor - opened_processor:>12.1f}")
    unit = 1 if sys.platform == "darwin" else 1024
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6:,.0f} MB")
    right = found & planted.keys()
    print(f"precision {len(right) / max(len(found), 1):.4f} ({len(found):,} pairs)")
    for kind in COPIES:
        wanted = {p for p, k in planted.items() if k == kind}
        print(f"recall {kind:14} {len(wanted & found) / max(len(wanted), 1):.4f}")


if __name__ == "__main__":
    main()
