"""Grouped NMS as one operator of fixed output shape, so that a two-stage detector is an ordinary graph.

ONNX has an operator for it; `onnx_translations` passes its name to torch's exporter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms


@torch.library.custom_op("blemish::grouped_nms", mutates_args=())
def grouped_nms(boxes: Tensor, scores: Tensor, nms_iou: float, min_score: float, max_kept: int) -> Tensor:
    """Return which boxes NMS keeps, in each of several groups.

    Args:
        boxes: (g, n, 4) xyxy.
        scores: (g, n).
        nms_iou: a box is removed if a higher-scoring box of its group has a larger IoU with it.
        min_score: boxes with this score or less are removed.
        max_kept: maximum number of boxes per group, those with the highest scores.

    Returns:
        (g, n) bool.

    Source:
        torchvision.ops.nms for each group; ONNX's NonMaxSuppression with one class.
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    candidates = scores > min_score
    for group in candidates.any(1).nonzero()[:, 0].tolist():
        rows = candidates[group].nonzero()[:, 0]
        kept = nms(boxes[group, rows].float(), scores[group, rows].float(), nms_iou)
        keep[group, rows[kept[:max_kept]]] = True
    return keep


@grouped_nms.register_fake
def _(boxes: Tensor, scores: Tensor, nms_iou: float, min_score: float, max_kept: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the `custom_translation_table` of torch.onnx.export: our operators in terms of ONNX's."""
    from onnxscript import opset18 as op

    def translate(boxes: Any, scores: Any, nms_iou: float, min_score: float, max_kept: int) -> Any:
        """Apply NonMaxSuppression, then mark the kept (group, box) pairs in a table of false."""
        kept = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, op.Constant(value_ints=[1])),
            op.Constant(value_ints=[max_kept]),
            op.Constant(value_floats=[nms_iou]),
            op.Constant(value_floats=[min_score]),
        )  # (k, 3): group, class 0, box
        pairs = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
        table = op.Cast(op.ConstantOfShape(op.Shape(scores)), to=9)  # 9 is BOOL
        count = op.Slice(op.Shape(kept), op.Constant(value_ints=[0]), op.Constant(value_ints=[1]))
        true = op.Expand(op.Cast(op.Constant(value_ints=[1]), to=9), count)
        return op.ScatterND(table, pairs, true)

    return {torch.ops.blemish.grouped_nms.default: translate}
