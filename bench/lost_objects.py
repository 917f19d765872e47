r"""Count at which stage of a detector the objects of each label are lost.

    python bench/lost_objects.py --model run/model.onnx --data cars --split val
    python bench/lost_objects.py --model run/model.onnx --panels 60

For every labeled object, the first stage that loses it: `box`, no candidate of any label overlaps it with IoU
>= .5; `label`, none of those has its label as the best; `suppression`, the model's minimum score, NMS or
maximum number of detections removes them; `mask`, no mask of those left overlaps it with IoU >= .5; `score`,
none of them reaches the label's threshold. `found` are the others. `small` is the share of objects below
8 x 8 pixels at the input size, `thin` of those with a side below 8 pixels there. --panels draws panels
with known scratches and dents in place of --data, for models that were trained on others of them.
"""

import argparse
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from blemish.arrays import FloatArray
from blemish.data import open_dataset, synthetic
from blemish.decoding import decode
from blemish.geometry import mask_iou, pairwise_iou
from blemish.imaging import open_image
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import Contract, read_model_file
from blemish.preprocessing import place, prepare
from blemish.structures import GroundTruth, Prediction, Sample

Counts = dict[str, Counter[str]]

STAGES = ("box", "label", "suppression", "mask", "score", "found")
MIN_IOU, SMALL = 0.5, 8.0
EVERYTHING = {"min_score": 0.0, "nms_iou": 1.0, "max_detections": 100_000}


def without_selection(contract: Contract) -> Contract:
    """Return the contract with a decoder that returns every candidate."""
    known = {key: value for key, value in EVERYTHING.items() if key in contract.decoder.settings}
    decoder = contract.decoder.model_copy(update={"settings": {**contract.decoder.settings, **known}})
    return contract.model_copy(update={"decoder": decoder})


def stages_of(
    ground_truth: GroundTruth, candidates: Prediction, kept: Prediction, thresholds: FloatArray
) -> Iterator[tuple[str, str]]:
    """Yield the stage of each object of one image, and its label's name."""
    assert (
        ground_truth.boxes_xyxy is not None
        and candidates.boxes_xyxy is not None
        and kept.boxes_xyxy is not None
    )
    overlap = pairwise_iou(ground_truth.boxes_xyxy, candidates.boxes_xyxy) >= MIN_IOU
    of_kept = pairwise_iou(ground_truth.boxes_xyxy, kept.boxes_xyxy) >= MIN_IOU
    names, known = ground_truth.labels.names, list(kept.labels.names)
    for row, index in enumerate(ground_truth.label_index):
        if ground_truth.crowd[row]:
            continue
        label = known.index(names[index])
        near = np.flatnonzero(of_kept[row] & (kept.label_index == label))
        if not overlap[row].any():
            yield names[index], "box"
        elif not (overlap[row] & (candidates.label_index == label)).any():
            yield names[index], "label"
        elif not len(near):
            yield names[index], "suppression"
        else:
            if ground_truth.masks is not None and kept.masks is not None:
                overlaps = mask_iou([ground_truth.masks[row]], [kept.masks[i] for i in near])[0]
                near = near[overlaps >= MIN_IOU]
            if not len(near):
                yield names[index], "mask"
            else:
                yield names[index], "found" if kept.scores[near].max() >= thresholds[label] else "score"


def measure(model: Path, samples: Sequence[Sample], threads: int) -> tuple[Counts, Counts]:
    contract = read_model_file(model).contract
    backend = OnnxRuntimeBackend(model, device="cpu", threads=threads)
    everything = without_selection(contract)
    thresholds = np.array([contract.thresholds.get(label.name, 0.5) for label in contract.labels])
    counts: Counts = defaultdict(Counter)
    sizes: Counts = defaultdict(Counter)
    for sample in samples:
        ground_truth = sample.ground_truth
        if (
            ground_truth is None
            or ground_truth.boxes_xyxy is None
            or ground_truth.size_hw is None
            or not len(ground_truth)
        ):
            continue
        prepared = [prepare(open_image(sample.path), spec) for spec in contract.inputs]
        feeds = {spec.name: p[0][None] for spec, p in zip(contract.inputs, prepared, strict=True)}
        outputs, placements = backend.run(feeds), [prepared[0][1]]
        (candidates,), (kept,) = (decode(c, outputs, placements) for c in (everything, contract))
        for name, stage in stages_of(ground_truth, candidates, kept, thresholds):
            counts[name][stage] += 1
        scale = np.asarray(place(ground_truth.size_hw, contract.inputs[0]).scale_xy)
        sides = (ground_truth.boxes_xyxy[:, 2:] - ground_truth.boxes_xyxy[:, :2]) * scale
        for index, (width, height) in zip(ground_truth.label_index, sides, strict=True):
            sizes[ground_truth.labels.names[index]]["small"] += bool(width * height < SMALL**2)
            sizes[ground_truth.labels.names[index]]["thin"] += bool(min(width, height) < SMALL)
    return counts, sizes


def print_table(counts: Counts, sizes: Counts) -> None:
    print("| label | objects | small | thin | " + " | ".join(STAGES) + " |")
    print("|---" * (4 + len(STAGES)) + "|")
    for name in sorted(counts, key=lambda n: -sum(counts[n].values())):
        row, size = counts[name], sizes[name]
        total = sum(row.values())
        shares = " | ".join(f"{row[stage] / total:.2f}" for stage in STAGES)
        print(f"| {name} | {total} | {size['small'] / total:.2f} | {size['thin'] / total:.2f} | {shares} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--panels", type=int, help="number of panels to draw in place of --data")
    parser.add_argument("--panel-seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    task = read_model_file(options.model).contract.task
    with tempfile.TemporaryDirectory() as folder:
        if options.panels:
            drawn = synthetic.write_panels(
                Path(folder), options.panels, options.panel_seed, layout="images", task=task
            )
            samples = list(drawn)
        else:
            samples = [s for s in open_dataset(options.data, task=task) if s.split == options.split]
        print_table(*measure(options.model, samples, options.threads))


if __name__ == "__main__":
    main()
