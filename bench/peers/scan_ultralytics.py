"""Check a folder with Ultralytics' verify_image_label, for the row folder-scan; run with its own interpreter.

    python scan_ultralytics.py FOLDER LABEL_COUNT

Prints JSON: seconds without imports (cold, and with its cache), and the images with complaints.
"""

import io
import json
import logging
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

from ultralytics.data.utils import (
    get_hash,
    img2label_paths,
    load_dataset_cache_file,
    save_dataset_cache_file,
    verify_image_label,
)
from ultralytics.utils import LOGGER, NUM_THREADS

LOGGER.setLevel(logging.CRITICAL)


def image_files(folder):
    """Return the files of a folder as YOLODataset.get_img_files does."""
    suffixes = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif"}
    return sorted(str(p) for p in Path(folder).rglob("*.*") if p.suffix.lower() in suffixes)


def main(folder, count):
    images = str(Path(folder) / "images")
    started, spent = time.perf_counter(), time.process_time()
    im_files = image_files(images)
    lb_files = img2label_paths(im_files)
    jobs = zip(
        im_files, lb_files, *([x] * len(im_files) for x in ("", False, count, 0, 0, False)), strict=True
    )
    complaints, labels = {}, []
    with ThreadPool(NUM_THREADS) as pool:
        for im_file, (kept, lb, shape, segments, *_, nc, msg) in zip(
            im_files, pool.imap(verify_image_label, jobs), strict=True
        ):
            if kept:
                labels.append(
                    {
                        "im_file": kept,
                        "shape": shape,
                        "cls": lb[:, 0:1],
                        "bboxes": lb[:, 1:],
                        "segments": segments,
                    }
                )
            if nc or msg:
                complaints[im_file] = msg
    cache = {
        "labels": labels,
        "hash": get_hash(lb_files + im_files),
        "results": (0,) * 5,
        "msgs": list(complaints.values()),
    }
    path = Path(folder) / "labels.cache"
    save_dataset_cache_file("", path, cache, "1")
    cold, spent = time.perf_counter() - started, time.process_time() - spent
    cached = []
    for _ in range(5):
        started = time.perf_counter()
        im_files = image_files(images)
        found = load_dataset_cache_file(path)
        assert found["hash"] == get_hash(img2label_paths(im_files) + im_files)
        cached.append(time.perf_counter() - started)
    path.unlink()
    print(
        json.dumps(
            {
                "cold": cold,
                "processor": spent,
                "cached": min(cached),
                "faulty": sorted(complaints),
                "threads": NUM_THREADS,
            }
        )
    )


if __name__ == "__main__":
    silent, sys.stderr = sys.stderr, io.StringIO()
    main(sys.argv[1], int(sys.argv[2]))
