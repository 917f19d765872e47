"""Compare the speed and the memory of COCO AP in Blemish, pycocotools and hotcoco (if it is installed).

    python bench/map.py                 # 5,000 images, more than 100,000 detections, boxes and masks
    python bench/map.py --images 500    # fewer images
    python bench/map.py --report 1000   # time and memory of the whole report of 1,000 images with masks

Each evaluator runs in a process of its own, on the same objects. Seconds and peak memory are those of the
evaluation alone, from arrays or COCO dictionaries in memory to the twelve metrics; on a busy machine, compare
the CPU seconds. The last line of each kind gives Blemish ten times as many detections.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SIDE = 640
LABELS = 20
METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
METRICS += ("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large")


def scene(images, per_ground_truth, seed=0):
    """Return (m, 6) ground truths and (n, 7) detections: image, label, xyxy, and for detections a score."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(7, images)
    ground_truths = np.zeros((count.sum(), 6))
    ground_truths[:, 0] = np.repeat(np.arange(images), count)
    ground_truths[:, 1] = rng.integers(0, LABELS, len(ground_truths))
    size = rng.choice([20, 60, 160], (len(ground_truths), 1)) * rng.uniform(0.6, 1.4, (len(ground_truths), 2))
    corner = rng.uniform(0, 1, (len(ground_truths), 2)) * (SIDE - size)
    ground_truths[:, 2:] = np.concatenate([corner, corner + size], 1)
    detections = np.repeat(ground_truths, per_ground_truth, 0)
    wide = detections[:, 4:6] - detections[:, 2:4]
    shift = (
        rng.normal(size=(len(detections), 4))
        * np.tile(wide, 2)
        * rng.choice([0.03, 0.1, 0.3], (len(detections), 1))
    )
    boxes = np.clip(detections[:, 2:] + shift, 0, SIDE)
    detections[:, 2:] = np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1
    )
    wrong = rng.random(len(detections)) < 0.2
    detections[wrong, 1] = rng.integers(0, LABELS, wrong.sum())
    return ground_truths, np.concatenate([detections, rng.random((len(detections), 1))], 1)


def run_lengths(box):
    """Return COCO's run lengths of an ellipse in a box, column by column."""
    x1, y1, x2, y2 = box
    columns = np.arange(int(np.ceil(x1 - 0.5)), int(np.floor(x2 - 0.5)) + 1)
    half = (
        (y2 - y1)
        / 2
        * np.sqrt(np.maximum(1 - ((columns + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2 + 1e-9)) ** 2, 0))
    )
    top = np.ceil((y1 + y2) / 2 - half - 0.5).astype(int).clip(0, SIDE)
    end = (np.floor((y1 + y2) / 2 + half - 0.5).astype(int) + 1).clip(0, SIDE)
    kept = end > top
    edges = np.stack([columns[kept] * SIDE + top[kept], columns[kept] * SIDE + end[kept]], 1).ravel()
    return np.diff(np.concatenate([[0], edges, [SIDE * SIDE]]))


def as_objects(rows, images, masks):
    from blemish.arrays import Mask
    from blemish.metrics.object_arrays import ObjectArrays

    all_masks = tuple(Mask((SIDE, SIDE), run_lengths(b)) for b in rows[:, 2:6]) if masks else None
    boxes = rows[:, 2:6]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return ObjectArrays(
        images=images,
        label_count=LABELS,
        image=rows[:, 0].astype(int),
        label=rows[:, 1].astype(int),
        boxes=boxes,
        area=area if all_masks is None else np.array([m.area for m in all_masks], float),
        score=rows[:, 6] if rows.shape[1] > 6 else np.ones(len(rows)),
        crowd=np.zeros(len(rows), bool),
        difficult=np.zeros(len(rows), bool),
        masks=all_masks,
    )


def as_coco(ground_truths, detections, image_count, masks):
    from pycocotools import mask as api

    sides = []
    for rows in (ground_truths, detections):
        side = []
        for i, row in enumerate(rows.tolist()):
            x1, y1, x2, y2 = row[2:6]
            entry = {"image_id": int(row[0]) + 1, "category_id": int(row[1]) + 1}
            if masks:
                plain = {"size": [SIDE, SIDE], "counts": run_lengths(row[2:6]).tolist()}
                entry["segmentation"] = api.frPyObjects(plain, SIDE, SIDE)
            else:
                entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            if rows is ground_truths:
                area = float(api.area(entry["segmentation"])) if masks else (x2 - x1) * (y2 - y1)
                entry |= {"id": i + 1, "iscrowd": 0, "area": area}
            else:
                entry["score"] = row[6]
            side.append(entry)
        sides.append(side)
    images = [{"id": i + 1, "width": SIDE, "height": SIDE} for i in range(image_count)]
    categories = [{"id": i + 1, "name": str(i)} for i in range(LABELS)]
    return {"images": images, "annotations": sides[0], "categories": categories, "info": {}}, sides[1]


def as_annotations(rows, images):
    """Return a GroundTruth per image, or a Prediction if the rows have scores, with masks."""
    from blemish.arrays import Mask
    from blemish.structures import GroundTruth, Labels, Prediction, Task

    labels = Labels(tuple(f"label {i}" for i in range(LABELS)))
    out = []
    for image in range(images):
        here = rows[rows[:, 0] == image]
        here = here[np.argsort(-here[:, 6], kind="stable")] if rows.shape[1] > 6 else here
        fields = {
            "task": Task.SEGMENTATION,
            "labels": labels,
            "size_hw": (SIDE, SIDE),
            "label_index": here[:, 1].astype(int),
            "boxes_xyxy": here[:, 2:6],
            "masks": tuple(Mask((SIDE, SIDE), run_lengths(b)) for b in here[:, 2:6]),
        }
        if rows.shape[1] > 6:
            best = np.zeros(LABELS)
            np.maximum.at(best, fields["label_index"], here[:, 6])
            sure = {"scores": here[:, 6], "label_scores": best, "thresholds": np.full(LABELS, 0.5)}
            out.append(Prediction(**fields, **sure))
        else:
            out.append(GroundTruth(**fields))
    return out


def report(images):
    """Print the seconds and the peak memory of a whole report with intervals, in this process."""
    ground_truths, detections = (as_annotations(rows, images) for rows in scene(images, 3))
    before, start = peak_mb(), (time.perf_counter(), time.process_time())
    from blemish.evaluation import score_predictions

    result = score_predictions(detections, ground_truths)
    seconds, busy = time.perf_counter() - start[0], time.process_time() - start[1]
    print(
        f"{images:,} images of {SIDE} px, {sum(map(len, ground_truths)):,} objects and "
        f"{sum(map(len, detections)):,} detections with masks: {seconds:.1f} s ({busy:.1f} s of CPU time), "
        f"peak {peak_mb():.0f} MB, {before:.0f} before; AP {result.value('ap'):.3f}"
    )


def peak_mb(field="VmHWM"):
    with open(f"/proc/{os.getpid()}/status") as file:  # noqa: PTH123
        return next(int(line.split()[1]) for line in file if line.startswith(field)) / 1024


def memory_before():
    """Return the memory of this process in MB, and let its peak begin here, if the system can."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mb("VmRSS")


def run_evaluator(name, images, per_ground_truth, masks):
    """Run one evaluator in this process; return seconds, peak memory and the twelve metrics."""
    ground_truths, detections = scene(images, per_ground_truth)
    if name == "blemish":
        from blemish.metrics.average_precision import accumulate
        from blemish.metrics.coco_matches import match_detections

        sides = as_objects(detections, images, masks), as_objects(ground_truths, images, masks)
        before = memory_before()
        start = time.perf_counter(), time.process_time()
        metrics = accumulate(match_detections(*sides)).metrics()
        stats = [metrics[n] for n in METRICS]
    else:
        data, results = as_coco(ground_truths, detections, images, masks)
        if name == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        else:
            from hotcoco import COCO, COCOeval
        before = memory_before()
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter(), time.process_time()
            if name == "pycocotools":
                ground_truth = COCO()
                ground_truth.dataset = data
                ground_truth.createIndex()
                evaluation = COCOeval(
                    ground_truth, ground_truth.loadRes(results), "segm" if masks else "bbox"
                )
            else:
                ground_truth = COCO(data)
                evaluation = COCOeval(
                    ground_truth, ground_truth.load_res(results), "segm" if masks else "bbox"
                )
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats = [float(v) for v in evaluation.stats]
    seconds, busy = time.perf_counter() - start[0], time.process_time() - start[1]
    return {
        "seconds": seconds,
        "busy": busy,
        "peak_mb": peak_mb(),
        "added_mb": peak_mb() - before,
        "detections": len(detections),
        "stats": stats,
    }


def run_in_process(*arguments):
    """Run one evaluator in a process of its own and return what it measured."""
    command = [sys.executable, __file__, "--evaluator", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--report", type=int, metavar="IMAGES")
    parser.add_argument("--evaluator", nargs=4)
    arguments = parser.parse_args()
    if arguments.evaluator:
        name, images, per_ground_truth, masks = arguments.evaluator
        print(json.dumps(run_evaluator(name, int(images), int(per_ground_truth), masks == "True")))
        return
    if arguments.report:
        report(arguments.report)
        return
    n = arguments.images
    print(
        f"{'':24}{'detections':>12}{'seconds':>10}{'times':>8}{'cpu s':>9}{'times':>8}"
        f"{'peak MB':>10}{'largest difference':>22}"
    )
    for masks in (False, True):
        reference = run_in_process("pycocotools", n, 3, masks)
        for name in ("pycocotools", "blemish", "hotcoco"):
            try:
                row = reference if name == "pycocotools" else run_in_process(name, n, 3, masks)
            except subprocess.CalledProcessError:
                continue
            show("masks" if masks else "boxes", name, row, reference)
        tenfold = run_in_process("blemish", n, 30, masks)
        show("masks" if masks else "boxes", "blemish x 10", tenfold, None)


def show(kind, name, row, reference):
    times = busy = difference = ""
    if reference is not None:
        times = f"{reference['seconds'] / row['seconds']:.1f}"
        busy = f"{reference['busy'] / row['busy']:.1f}"
        difference = f"{np.abs(np.subtract(row['stats'], reference['stats'])).max():.1e}"
    print(
        f"{kind:10}{name:14}{row['detections']:>12,}{row['seconds']:>10.2f}{times:>8}{row['busy']:>9.2f}{busy:>8}"
        f"{row['peak_mb']:>10.0f}{difference:>22}",
        flush=True,
    )


if __name__ == "__main__":
    main()
