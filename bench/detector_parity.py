"""Compare the detections and the speed of an imported YOLO with those of Ultralytics.

    blemish import yolo11n.pt --model yolo11n --output yolo11n.onnx
    python bench/detector_parity.py --model-file yolo11n.onnx --weights yolo11n.pt --data cars/val/images

Needs the extra `yolo`. Prints the share of detections with score >= .25, on either side, that the other side
has with the same label, IoU >= .99 and a score within 1e-3; for segmentation also the IoU of the masks; then
images per second over the whole folder, from file to result, each side at its best settings.
"""

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}

import numpy as np

import blemish
from blemish.geometry import mask_from_array, mask_iou, pairwise_iou
from blemish.inference.sources import find_paths

MIN_SCORE, MIN_IOU, MAX_GAP = 0.25, 0.99, 1e-3


def ultralytics_model(name, weights):
    from ultralytics import YOLO

    if weights.suffix == ".pt":
        return YOLO(weights)
    import torch

    model = YOLO(f"{name}.yaml")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    model.model.load_state_dict(state)
    return model


def theirs(model, paths, **how):
    """Yield the boxes, scores, labels and masks of each image, from Ultralytics."""
    for start in range(0, len(paths), 32):
        chunk = [str(p) for p in paths[start : start + 32]]
        for result in model.predict(chunk, stream=True, verbose=False, device="cpu", **how):
            masks = None if result.masks is None else result.masks.data.numpy() > 0.5
            found = result.boxes
            yield found.xyxy.numpy(), found.conf.numpy(), found.cls.numpy().astype(int), masks


def unmatched(first, second):
    """Return how many detections of the first side the second lacks, and the mask IoU of the others."""
    boxes, scores, labels = first[:3]
    if not len(boxes):
        return 0, []
    if not len(second[0]):
        return int((scores >= MIN_SCORE).sum()), []
    same = pairwise_iou(boxes, second[0]) >= MIN_IOU
    same &= np.abs(scores[:, None] - second[1]) <= MAX_GAP
    same &= labels[:, None] == second[2]
    overlaps = []
    if first[3] is not None and second[3] is not None:
        rows = np.flatnonzero(same.any(1) & (scores >= MIN_SCORE))
        twins = same[rows].argmax(1)
        overlaps = [
            float(mask_iou([first[3][row]], [second[3][twin]])[0, 0])
            for row, twin in zip(rows, twins, strict=True)
        ]
    return int((~same.any(1) & (scores >= MIN_SCORE)).sum()), overlaps


def parity(predictor, model, paths, name):
    missing = total = 0
    overlaps = []
    worst = ""
    outcomes = predictor.stream(paths)
    low = MIN_SCORE - MAX_GAP
    whole = {"rect": False}  # a square input, as in the model file
    if name.endswith("-seg"):
        whole["retina_masks"] = True
    for path, outcome, found in zip(paths, outcomes, theirs(model, paths, conf=low, **whole), strict=True):
        ours = outcome.prediction
        kept = ours.scores >= low
        masks = None if ours.masks is None else [m for m, k in zip(ours.masks, kept, strict=True) if k]
        mine = ours.boxes_xyxy[kept], ours.scores[kept], ours.label_index[kept], masks
        other = None if found[3] is None else [mask_from_array(m) for m in found[3]]
        there = found[0].astype(float), found[1].astype(float), found[2], other
        for one, two in ((mine, there), (there, mine)):
            lacking, iou = unmatched(one, two)
            missing += lacking
            total += int((one[1] >= MIN_SCORE).sum())
            overlaps += iou
            worst = path.name if lacking else worst
    share = 1 - missing / max(total, 1)
    print(f"{len(paths)} images, {total} detections with score >= {MIN_SCORE} on both sides together")
    print(
        f"matched (IoU >= {MIN_IOU}, score within {MAX_GAP:g}): {share:.2%}"
        + (f", last miss in {worst}" if worst else "")
    )
    if overlaps:
        print(f"mask IoU of matched detections: mean {np.mean(overlaps):.4f}, min {np.min(overlaps):.4f}")
    return share


def best_rates(sides, count, rounds):
    """Return the images per second of each side at its best setting; the sides alternate."""
    rates = {(side, setting): 0.0 for side, (settings, _) in sides.items() for setting in settings}
    processor = dict.fromkeys(rates, float("inf"))
    for side, setting in rates:
        sides[side][1](setting, 8)  # warm up
    for _ in range(rounds):
        for one in rates:
            start, busy = time.perf_counter(), time.process_time()
            sides[one[0]][1](one[1], count)
            rates[one] = max(rates[one], count / (time.perf_counter() - start))
            processor[one] = min(processor[one], (time.process_time() - busy) / count)
    best = {}
    for side in sides:
        own = {one: rate for one, rate in rates.items() if one[0] == side}
        best[side] = max(own.values()), min(processor[one] for one in own)
        shown = ", ".join(f"batch {one[1]}: {rate:.2f}" for one, rate in own.items())
        print(
            f"{side}: {best[side][0]:.2f} images/s ({shown}), "
            f"{1000 * best[side][1]:.0f} ms of processor time per image"
        )
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-file", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--speed", type=int, default=64, help="images to time; 0 for none")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    paths = list(itertools.islice(find_paths([given.data]), given.count))
    predictor = blemish.load(given.model_file, backend="onnxruntime")
    name = predictor.contract.architecture
    model = ultralytics_model(name, given.weights)
    share = parity(predictor, model, paths, name)
    if not given.speed:
        sys.exit(share < 0.99)
    some = paths[: given.speed]
    predictors = {"onnxruntime": predictor}
    try:
        predictors["openvino"] = blemish.load(given.model_file, backend="openvino")
    except blemish.errors.BlemishError as error:
        print(f"openvino: {error}")
    sides = {
        f"Blemish, {name}": ((1, 4), lambda b, n, p=p: list(p.stream(some[:n], b, min_score=MIN_SCORE)))
        for name, p in predictors.items()
    }
    sides["Ultralytics, PyTorch"] = (
        (1, 4, 8),
        lambda batch, n: list(theirs(model, some[:n], conf=MIN_SCORE, batch=batch)),
    )
    *ours, other = best_rates(sides, len(some), given.rounds).values()
    for side, rate in zip(sides, ours, strict=False):
        print(
            f"{side} / Ultralytics: {rate[0] / other[0]:.2f} in wall-clock time (target: 1.3), "
            f"{other[1] / rate[1]:.2f} in processor time"
        )
    sys.exit(share < 0.99)


if __name__ == "__main__":
    main()
