"""Default boxes of single-shot detectors: where they stand, what each answers for, and the code between.

Boxes are corners (x1 y1 x2 y2) or centres (cx cy w h), always in network pixels; truths are corners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

SMALLEST_SIDE = 0.1  # network pixels; a thinner truth counts as this wide, so that its logarithm is finite
LARGEST_LOG_RATIO = math.log(1000 / 16)  # torchvision's: a box grows at most this much over its default box


def default_boxes(
    maps_hw: Sequence[tuple[int, int]],
    size_hw: tuple[int, int],
    scales: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
) -> Tensor:
    """The default boxes of every cell of every map, row by row, all shapes of a cell together.

    Args:
        maps_hw: height and width of each map in cells.
        size_hw: of the network's input, pixels.
        scales: one more than there are maps: the side of a map's square box as a share of the input.
            A second square stands between this scale and the next (their geometric mean).
        aspect_ratios: a list a map; each ratio r gives a box r times as wide as high and its upright twin.

    Returns:
        (n, 4) float32 centres and sizes, network pixels; sides are at most the input's.

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
        centres = torch.stack((x, y), -1).reshape(-1, 1, 2).expand(-1, len(shapes), 2)  # (h*w, a, 2)
        rows.append(torch.cat((centres, sides.expand(len(centres), -1, 2)), -1).reshape(-1, 4))
    height, width = size_hw
    return torch.cat(rows) * torch.tensor([width, height, width, height], dtype=torch.float32)


def boxes_a_cell(aspect_ratios: Sequence[Sequence[float]]) -> list[int]:
    """How many default boxes each cell of each map has."""
    return [2 + 2 * len(ratios) for ratios in aspect_ratios]


def to_corners(centres: Tensor) -> Tensor:
    """(..., 4) x1 y1 x2 y2 from (..., 4) cx cy w h."""
    half = centres[..., 2:] / 2
    return torch.cat((centres[..., :2] - half, centres[..., :2] + half), -1)


def to_centres(corners: Tensor) -> Tensor:
    """(..., 4) cx cy w h from (..., 4) x1 y1 x2 y2."""
    side = corners[..., 2:] - corners[..., :2]
    return torch.cat((corners[..., :2] + side / 2, side), -1)


def clip(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(..., 4) corners inside an input of that many pixels."""
    height, width = size_hw
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), -1)


def match(ground_truths: Tensor, anchors: Tensor, match_iou: float) -> Tensor:
    """The truth that each default box answers for.

    A box answers for the truth it overlaps most, if by at least `match_iou`. Besides, every truth gets the
    best box that no other truth took: the pair with the largest overlap first, so that two truths in one
    place have a box each. A truth that overlaps nothing gets none.

    Args:
        ground_truths: (m, 4) corners.
        anchors: (n, 4) corners.
        match_iou: in (0, 1].

    Returns:
        (n,) int64 row of `ground_truths`, -1 for background.

    Source:
        SSD, section 2.2, and its Caffe implementation (bipartite first).
    """
    found = torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    if len(ground_truths) == 0:
        return found
    iou = box_iou(with_area(ground_truths), anchors)  # (m, n)
    overlap, best = iou.max(0)
    found = torch.where(overlap >= match_iou, best, found)
    free = iou.clone()
    for _ in range(len(ground_truths)):
        pair = free.argmax()
        row, column = pair // free.shape[1], pair % free.shape[1]
        # No `if`: reading a value back would make a GPU wait.
        found[column] = torch.where(free[row, column] > 0, row, found[column])
        free[row] = -1
        free[:, column] = -1
    return found


def encode(ground_truths: Tensor, anchors: Tensor, variances: tuple[float, float]) -> Tensor:
    """(n, 4) offsets that `decode` turns back into `ground_truths`.

    Args:
        ground_truths: (n, 4) corners, one a default box; sides under a tenth of a pixel count as that.
        anchors: (n, 4) centres and sizes.
        variances: of centre and size; offsets are divided by them.

    Source:
        SSD, equation 2; equals torchvision's BoxCoder with the variances' reciprocals as weights.
    """
    centre = (ground_truths[:, :2] + ground_truths[:, 2:]) / 2
    side = (ground_truths[:, 2:] - ground_truths[:, :2]).clamp(min=SMALLEST_SIDE)
    shift = (centre - anchors[:, :2]) / (anchors[:, 2:] * variances[0])
    return torch.cat((shift, torch.log(side / anchors[:, 2:]) / variances[1]), -1)


def decode(offsets: Tensor, anchors: Tensor, variances: tuple[float, float]) -> Tensor:
    """Boxes as corners from a network's offsets.

    Args:
        offsets: (..., n, 4).
        anchors: (n, 4) centres and sizes, or (..., n, 4).
        variances: of centre and size.

    Returns:
        (..., n, 4), x1 <= x2 and y1 <= y2; finite for finite offsets.
    """
    centre = anchors[..., :2] + offsets[..., :2] * variances[0] * anchors[..., 2:]
    growth = (offsets[..., 2:] * variances[1]).clamp(max=LARGEST_LOG_RATIO)
    return to_corners(torch.cat((centre, anchors[..., 2:] * growth.exp()), -1))


def with_area(boxes: Tensor) -> Tensor:
    """Boxes of at least the smallest side, about their own centre."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).clamp(min=SMALLEST_SIDE) / 2
    return torch.cat((centre - half, centre + half), -1)
