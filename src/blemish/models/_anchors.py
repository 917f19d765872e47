"""Default boxes (anchors) of detectors: placement, matching with ground truth, and box encoding.

Boxes are corners (x1 y1 x2 y2) or centers (cx cy w h), in network pixels; ground truths are corners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

MIN_SIDE = 0.1  # network pixels; a thinner ground truth is widened to it, so that its logarithm is finite
MAX_LOG_RATIO = math.log(1000 / 16)  # of the sides of a box and its anchor; torchvision's value


def default_boxes(
    maps_hw: Sequence[tuple[int, int]],
    size_hw: tuple[int, int],
    scales: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
) -> Tensor:
    """Return the default boxes of every cell of every map, row by row, all shapes of a cell together.

    Args:
        maps_hw: height and width of each map in cells.
        size_hw: height and width of the network's input in pixels.
        scales: side of each map's square box as a share of the input, and one more scale. A second square has
            the geometric mean of a map's scale and the next.
        aspect_ratios: one list per map; each ratio r adds a box of width / height r and one of 1 / r.

    Returns:
        (n, 4) float32 centers and sizes in network pixels; sides are at most the input's.

    Source:
        Liu et al., SSD, section 2.2; equals torchvision's DefaultBoxGenerator without `steps`.
    """
    rows = []
    for position, (height, width) in enumerate(maps_hw):
        scale = scales[position]
        between = math.sqrt(scale * scales[position + 1])
        shapes = [(scale, scale), (between, between)]
        for ratio in aspect_ratios[position]:
            wide, high = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            shapes += [(wide, high), (high, wide)]
        sides = torch.tensor(shapes).clamp(0, 1)  # (a, 2)
        y, x = torch.meshgrid(
            (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
        )
        centers = torch.stack((x, y), -1).reshape(-1, 1, 2).expand(-1, len(shapes), 2)  # (h*w, a, 2)
        rows.append(torch.cat((centers, sides.expand(len(centers), -1, 2)), -1).reshape(-1, 4))
    height, width = size_hw
    return torch.cat(rows) * torch.tensor([width, height, width, height], dtype=torch.float32)


def boxes_per_cell(aspect_ratios: Sequence[Sequence[float]]) -> list[int]:
    """Return the number of default boxes per cell of each map."""
    return [2 + 2 * len(ratios) for ratios in aspect_ratios]


def to_corners(centers: Tensor) -> Tensor:
    """Return (..., 4) x1 y1 x2 y2 of (..., 4) cx cy w h."""
    half = centers[..., 2:] / 2
    return torch.cat((centers[..., :2] - half, centers[..., :2] + half), -1)


def to_centers(corners: Tensor) -> Tensor:
    """Return (..., 4) cx cy w h of (..., 4) x1 y1 x2 y2."""
    side = corners[..., 2:] - corners[..., :2]
    return torch.cat((corners[..., :2] + side / 2, side), -1)


def clip(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return (..., 4) corners, clipped to an input of `size_hw` pixels."""
    height, width = size_hw
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), -1)


def match(ground_truths: Tensor, anchors: Tensor, match_iou: float) -> Tensor:
    """Return the ground truth that each anchor is matched with.

    An anchor is matched with the ground truth of the largest IoU, if that is at least `match_iou`. In
    addition, every ground truth gets the best anchor that is still free, the pair with the largest IoU first,
    so that two ground truths in one place get one anchor each. A ground truth without any overlap gets none.

    Args:
        ground_truths: (m, 4) corners.
        anchors: (n, 4) corners.
        match_iou: in (0, 1].

    Returns:
        (n,) int64 row of `ground_truths`, -1 for background.

    Source:
        SSD, section 2.2, and its Caffe implementation (bipartite first).
    """
    rows = torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    if len(ground_truths) == 0:
        return rows
    iou = box_iou(with_area(ground_truths), anchors)  # (m, n)
    overlap, best = iou.max(0)
    rows = torch.where(overlap >= match_iou, best, rows)
    free = iou.clone()
    for _ in range(len(ground_truths)):
        pair = free.argmax()
        row, column = pair // free.shape[1], pair % free.shape[1]
        # Without `if`: reading a value would make the GPU wait.
        rows[column] = torch.where(free[row, column] > 0, row, rows[column])
        free[row] = -1
        free[:, column] = -1
    return rows


def encode(ground_truths: Tensor, anchors: Tensor, variances: tuple[float, float]) -> Tensor:
    """Return the (n, 4) offsets that `decode` turns back into `ground_truths`.

    Args:
        ground_truths: (n, 4) corners, one per anchor; sides below `MIN_SIDE` are widened to it.
        anchors: (n, 4) centers and sizes.
        variances: of center and size; offsets are divided by them.

    Source:
        SSD, equation 2; equals torchvision's BoxCoder with the variances' reciprocals as weights.
    """
    center = (ground_truths[:, :2] + ground_truths[:, 2:]) / 2
    side = (ground_truths[:, 2:] - ground_truths[:, :2]).clamp(min=MIN_SIDE)
    shift = (center - anchors[:, :2]) / (anchors[:, 2:] * variances[0])
    return torch.cat((shift, torch.log(side / anchors[:, 2:]) / variances[1]), -1)


def decode(offsets: Tensor, anchors: Tensor, variances: tuple[float, float]) -> Tensor:
    """Return the boxes that offsets stand for, as corners.

    Args:
        offsets: (..., n, 4).
        anchors: (n, 4) or (..., n, 4) centers and sizes.
        variances: of center and size.

    Returns:
        (..., n, 4), x1 <= x2 and y1 <= y2; finite for finite offsets.
    """
    center = anchors[..., :2] + offsets[..., :2] * variances[0] * anchors[..., 2:]
    growth = (offsets[..., 2:] * variances[1]).clamp(max=MAX_LOG_RATIO)
    return to_corners(torch.cat((center, anchors[..., 2:] * growth.exp()), -1))


def with_area(boxes: Tensor) -> Tensor:
    """Return boxes widened to sides of at least `MIN_SIDE`, around their own center."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=MIN_SIDE) / 2
    return torch.cat((center - half, center + half), -1)
