r"""Compare SSD's default boxes with boxes that are clustered from the training images.

    python -m bench.default_boxes --data structure --size 224

The widths and heights of the objects of the train split, as shares of the image (the input is stretched), are
clustered by k-means with 1 - IoU as distance, and the means of clusters as centers. `sorted` spreads as many
clusters as there are shapes over the feature maps by area; `by scale` clusters the objects of each map's
range of scales separately. For the objects of the val split the table gives the best IoU with any default
box, the share of objects with a box of IoU >= .5 (a positive example in training), and the number of those.
"""

import argparse
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou

from blemish.arrays import FloatArray
from blemish.config.detector_options import SSDOptions
from blemish.data import open_dataset
from blemish.imaging import open_image
from blemish.models._anchors import boxes_per_cell, default_boxes, to_corners
from blemish.models._build import create
from blemish.models.architectures.ssd import SSD

MAX_ROUNDS = 300


def shape_iou(shapes: FloatArray, others: FloatArray) -> FloatArray:
    """Return the (n, m) IoU of boxes with one center, from their widths and heights."""
    common = np.minimum(shapes[:, None], others[None]).prod(2)
    iou: FloatArray = common / (shapes.prod(1)[:, None] + others.prod(1)[None] - common)
    return iou


def cluster_shapes(shapes: FloatArray, count: int, seed: int = 0) -> FloatArray:
    """Return (k, 2) centers of clusters of widths and heights, k <= count, the smallest first.

    Args:
        shapes: (n, 2), positive.
        count: maximum number of clusters; fewer if there are fewer different shapes.
        seed: of the first centers, which are drawn as in k-means++.
    """
    random = np.random.default_rng(seed)
    count = min(count, len(np.unique(shapes, axis=0)))
    centers: FloatArray = shapes[[random.integers(len(shapes))]]
    while len(centers) < count:
        distance = (1 - shape_iou(shapes, centers).max(1)) ** 2
        centers = np.concatenate([centers, shapes[[random.choice(len(shapes), p=distance / distance.sum())]]])
    nearest = None
    for _ in range(MAX_ROUNDS):
        found = shape_iou(shapes, centers).argmax(1)
        if nearest is not None and (found == nearest).all():
            break
        nearest = found
        for i in np.unique(found):
            centers[i] = shapes[found == i].mean(0)
    ordered: FloatArray = centers[np.argsort(centers.prod(1))]
    return ordered


def spread_by_area(shapes: FloatArray, counts: Sequence[int], seed: int) -> list[FloatArray]:
    """Return a list of shapes for each map, from one clustering, the smallest for the first map."""
    centers = cluster_shapes(shapes, sum(counts), seed)
    return np.split(centers, np.cumsum(counts)[:-1])


def spread_by_scale(
    shapes: FloatArray, counts: Sequence[int], scales: Sequence[float], seed: int
) -> list[FloatArray]:
    """Return a list of shapes for each map, clustered from the shapes in its range of scales."""
    borders = [math.sqrt(a * b) for a, b in itertools.pairwise(scales[:-1])]
    position = np.searchsorted(borders, np.sqrt(shapes.prod(1)))
    return [
        cluster_shapes(shapes[position == i], count, seed) if (position == i).any() else np.array([[s, s]])
        for i, (count, s) in enumerate(zip(counts, scales, strict=False))
    ]


def boxes_of(shapes_by_map: Sequence[FloatArray], maps_hw: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Return (n, 4) corners of the shapes at every cell of every map, as shares of the input."""
    rows = []
    for (height, width), shapes in zip(maps_hw, shapes_by_map, strict=True):
        y, x = np.mgrid[:height, :width]
        centers = np.stack([(x + 0.5) / width, (y + 0.5) / height], -1).reshape(-1, 1, 2)
        centers = np.broadcast_to(centers, (height * width, len(shapes), 2))
        sides = np.broadcast_to(shapes, centers.shape)
        rows.append(np.concatenate([centers, sides], -1).reshape(-1, 4))
    return to_corners(torch.from_numpy(np.concatenate(rows)))


def coverage(boxes: torch.Tensor, objects: FloatArray) -> tuple[float, float, float]:
    """Return mean best IoU, share of objects with a box of IoU >= .5, and the mean number of such boxes."""
    iou = box_iou(torch.from_numpy(objects), boxes)
    best, count = iou.max(1).values, (iou >= 0.5).sum(1).double()
    return float(best.mean()), float((count > 0).double().mean()), float(count.mean())


def objects_of(data: Path | str, split: str) -> FloatArray:
    """Return (n, 4) boxes of a split as shares of their images."""
    rows = [np.zeros((0, 4))]
    for sample in open_dataset(data, task="detection"):
        ground_truth = sample.ground_truth
        if sample.split != split or ground_truth is None or ground_truth.boxes_xyxy is None:
            continue
        height, width = sample.size_hw or open_image(sample.path).size_hw
        rows.append(ground_truth.boxes_xyxy / [width, height, width, height])
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--model", default="ssd300-efficientnet-lite0")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network = create(options.model, task="detection", label_count=1, input_size=options.size)
    if not isinstance(network, SSD):
        parser.error("--model: expected an SSD")
    given = SSDOptions()
    counts = boxes_per_cell(given.aspect_ratios)
    train, validation = objects_of(options.data, "train"), objects_of(options.data, "val")
    shapes = train[:, 2:] - train[:, :2]
    shapes = shapes[(shapes > 0).all(1)]
    default = default_boxes(network.maps_hw, (1, 1), given.scales, given.aspect_ratios)
    arms = {
        "default": to_corners(default).double(),
        "sorted": boxes_of(spread_by_area(shapes, counts, options.seed), network.maps_hw),
        "by scale": boxes_of(spread_by_scale(shapes, counts, given.scales, options.seed), network.maps_hw),
    }
    print(f"{len(shapes)} objects of train, {len(validation)} of val")
    print(
        "| default boxes | per image | best IoU | objects with a positive box | positive boxes per object |"
    )
    print("|---|---|---|---|---|")
    for name, boxes in arms.items():
        best, share, count = coverage(boxes, validation)
        print(f"| {name} | {len(boxes)} | {best:.3f} | {share:.3f} | {count:.2f} |")


if __name__ == "__main__":
    main()
