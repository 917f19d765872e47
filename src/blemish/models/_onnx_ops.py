"""Greedy suppression as one operator of fixed shape, so that a two-stage detector is an ordinary graph.

ONNX has the same step as an operator of its own; torch's exporter is told of it by `onnx_translations`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op("blemish::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, max_iou: float, floor: float, max_kept: int) -> Tensor:
    """Which boxes stay, for many groups at once.

    Args:
        boxes: (g, n, 4) corners.
        scores: (g, n).
        max_iou: a box goes when a better one of its group overlaps it by more.
        floor: boxes must score above it.
        max_kept: a group, the best.

    Returns:
        (g, n) bool.

    Source:
        torchvision.ops.nms a group; ONNX's NonMaxSuppression with one class.
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    candidates = scores > floor
    for group in candidates.any(1).nonzero()[:, 0].tolist():
        rows = candidates[group].nonzero()[:, 0]
        stays = nms(boxes[group, rows].float(), scores[group, rows].float(), max_iou)
        keep[group, rows[stays[:max_kept]]] = True
    return keep


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, max_iou: float, floor: float, max_kept: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What torch.onnx.export takes as `custom_translation_table`: our operators as ONNX says them."""
    from onnxscript import opset18 as op

    def translate(boxes: Any, scores: Any, max_iou: float, floor: float, max_kept: int) -> Any:
        """Suppression, then the chosen (group, box) pairs marked in a table of false."""
        chosen = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, op.Constant(value_ints=[1])),
            op.Constant(value_ints=[max_kept]),
            op.Constant(value_floats=[max_iou]),
            op.Constant(value_floats=[floor]),
        )  # (k, 3): group, class 0, box
        pairs = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        marks = op.Cast(op.ConstantOfShape(op.Shape(scores)), to=9)  # 9 is BOOL
        count = op.Slice(op.Shape(chosen), op.Constant(value_ints=[0]), op.Constant(value_ints=[1]))
        yes = op.Expand(op.Cast(op.Constant(value_ints=[1]), to=9), count)
        return op.ScatterND(marks, pairs, yes)

    return {torch.ops.blemish.suppress.default: translate}
