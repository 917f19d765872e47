"""Round the weights of layers to INT8 values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.export.int8_layers import Layer
from blemish.export.int8_statistics import Activations

WEIGHT_LEVELS = 64  # on each side of zero: 2 * 255 * 64 < 2 ** 15, so that no sum of two products overflows
CLIP_SHARES = tuple(np.linspace(1, 0.5, 21))  # of a channel's largest weight, tried for its scale


def rounded_layer(proto: Any, layer: Layer, activations: Activations) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a layer rounded to their INT8 values, and its bias corrected for the mean error.

    Each output channel gets the scale with the smallest expected square error of its outputs. The quantizer
    then finds weights that it represents exactly. Weights that several layers share are left to it.

    Args:
        proto: the ModelProto in float32.
        layer: one of its layers.
        activations: measured on calibration images.

    Returns:
        New float32 values by initializer name.

    Source:
        Bias correction of Nagel et al., "Data-free quantization through weight equalization and bias
        correction", ICCV 2019, section 4.2.
    """
    from onnx import numpy_helper

    constants = {t.name: t for t in proto.graph.initializer}
    node = next(node for node in proto.graph.node if node.name == layer.name)
    uses = [name for node in proto.graph.node for name in node.input]
    weight = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
    is_simple = node.op_type == "Conv" or weight.ndim == 2
    if not is_simple or uses.count(node.input[1]) > 1 or node.input[0] not in activations.means:
        return {}
    rows, restore = _output_rows(node, weight)  # (outputs, inputs * kernel)
    mean = _per_row(node, weight, activations.means[node.input[0]])
    power = _per_row(node, weight, activations.powers[node.input[0]])
    rounded = round_rows(rows, power)
    values = {node.input[1]: restore(rounded).astype(np.float32)}
    bias = constants.get(node.input[2]) if len(node.input) > 2 else None
    if bias is not None and uses.count(bias.name) == 1 and len(bias.dims) == 1:
        correction = ((rows - rounded) * mean).sum(1)
        values[bias.name] = (numpy_helper.to_array(bias) + correction).astype(np.float32)
    return values


def _output_rows(node: Any, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], Any]:
    """Return weights with one row per output channel, and the function that undoes it."""
    if node.op_type == "Conv":
        return weight.reshape(len(weight), -1), lambda rows: rows.reshape(weight.shape)
    if node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute):
        return weight, lambda rows: rows
    return weight.T, lambda rows: rows.T


def _per_row(node: Any, weight: NDArray[np.float64], channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a statistic of the input channels for each weight, broadcastable to rows of `_output_rows`."""
    if node.op_type != "Conv":
        return channels[None]
    outputs, inputs = weight.shape[:2]
    kernel = int(np.prod(weight.shape[2:]))
    groups = len(channels) // inputs
    by_group = np.repeat(channels.reshape(groups, inputs), kernel, axis=1)
    return np.repeat(by_group, outputs // groups, axis=0)


def round_rows(rows: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows rounded to multiples of a scale per row with the smallest error.

    Args:
        rows: (n, m) weights, one row per output channel.
        power: (n or 1, m) weight of the square error of each.
    """
    largest = np.abs(rows).max(1, keepdims=True)
    best = np.zeros_like(rows)
    lowest = np.full(len(rows), np.inf)
    for share in CLIP_SHARES:
        scale = np.maximum(largest * share / WEIGHT_LEVELS, 1e-30)
        rounded = np.clip(np.round(rows / scale), -WEIGHT_LEVELS, WEIGHT_LEVELS) * scale
        error = ((rows - rounded) ** 2 * power).sum(1)
        better = error < lowest
        best[better], lowest[better] = rounded[better], error[better]
    return best
