"""Compare the labels of images that show the same: what a detector of these labels can reach.

    python bench/label_agreement.py --data cars

Finds exact copies and near duplicates in a data set with boxes, and matches the objects of each pair: an
object agrees if the other image has one of its label with IoU >= .5 (mirrored if the image is). Two labelings
that agree on a share p of the objects bound what AP50 can measure: a perfect detector that learned one of
them finds p of the objects of the other. Objects of near duplicates also move with the car or the camera, so
that their share is a lower bound.
"""

import argparse
from collections import Counter

import numpy as np

from blemish.data import open_dataset
from blemish.data.duplicates import find_copies, image_signatures
from blemish.geometry import pairwise_iou

MIN_IOU = 0.5


def agreement(first, second, mirrored):
    """Yield the label of each object of an image, and whether the other image has it too."""
    boxes = second.boxes_xyxy / (second.size_hw[::-1] * 2)
    if mirrored:
        boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)
    overlap = pairwise_iou(first.boxes_xyxy / (first.size_hw[::-1] * 2), boxes) >= MIN_IOU
    for row, index in enumerate(first.label_index):
        yield first.labels.names[index], bool((overlap[row] & (second.label_index == index)).any())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="detection")
    options = parser.parse_args()
    samples = [s for s in open_dataset(options.data, task=options.task) if s.ground_truth is not None]
    pairs = find_copies(image_signatures([s.path for s in samples]))
    agreed, total = ({kind: Counter() for kind in ("exact copies", "near duplicates")} for _ in range(2))
    for pair in pairs:
        kind = "exact copies" if pair.exact else "near duplicates"
        one, other = (samples[i].ground_truth for i in (pair.first, pair.second))
        for a, b in ((one, other), (other, one)):
            for label, agrees in agreement(a, b, pair.mirrored):
                total[kind][label] += 1
                agreed[kind][label] += agrees
    for kind, counts in total.items():
        of_kind = sum(pair.exact == (kind == "exact copies") for pair in pairs)
        print(f"{kind}: {of_kind} pairs of {len(samples)} images")
        for label, count in counts.most_common():
            print(f"  {label}: {agreed[kind][label]} of {count} objects, {agreed[kind][label] / count:.2f}")


if __name__ == "__main__":
    main()
