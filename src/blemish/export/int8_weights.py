"""Round the weights of layers to INT8 values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.export.int8_layers import Layer
from blemish.export.int8_statistics import Activations

WEIGHT_LEVELS = 64  # on each side of zero: 2 * 255 * 64 < 2 ** 15, so that no sum of two products overflows
MIN_SCALE = 1e-30
DAMPING = 0.01  # of the mean power of the inputs, so that moments of few samples can be inverted
BLOCK = 64  # columns whose errors are passed on together
CLIP_SHARES = tuple(np.linspace(1, 0.5, 21))  # of a channel's largest weight, tried for its scale


def rounded_layer(proto: Any, layer: Layer, activations: Activations) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a layer rounded to their INT8 values, and its bias corrected for the mean error.

    Each output channel gets the scale with the smallest expected square error of its outputs. If it is known
    which inputs vary together, later weights make up for the error of earlier ones. The quantizer then finds
    weights that it represents exactly. Weights that several layers share are left to it.

    Args:
        proto: the ModelProto in float32.
        layer: one of its layers.
        activations: measured on calibration images.

    Returns:
        New float32 values by initializer name.

    Source:
        Bias correction of Nagel et al., "Data-free quantization through weight equalization and bias
        correction", ICCV 2019, section 4.2. Feedback of Frantar et al., "GPTQ: accurate post-training
        quantization for generative pre-trained transformers", ICLR 2023, section 3.
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
    moments = activations.moments.get(layer.name)
    rounded = round_rows(rows, power) if moments is None else round_with_feedback(rows, power, moments)
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
    scales = row_scales(rows, power)
    return _to_levels(rows, scales)


def row_scales(rows: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, 1) scales with the smallest error; the largest weight of a row gets the last level."""
    largest = np.abs(rows).max(1, keepdims=True)
    best: NDArray[np.float64] = np.maximum(largest / WEIGHT_LEVELS, MIN_SCALE)
    lowest = np.full(len(rows), np.inf)
    for share in CLIP_SHARES:
        scales = np.maximum(largest * share / WEIGHT_LEVELS, MIN_SCALE)
        error = ((rows - _to_levels(rows, scales)) ** 2 * power).sum(1)
        better = error < lowest
        best[better], lowest[better] = scales[better], error[better]
    return best


def round_with_feedback(
    rows: NDArray[np.float64], power: NDArray[np.float64], moments: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return rows rounded one column after the other, the rest making up for the error of the rounded ones.

    Args:
        rows: (n, m) weights, one row per output channel.
        power: see `round_rows`, for the scales.
        moments: (m, m) means of the products of the inputs.

    Source:
        GPTQ, see `rounded_layer`; columns with the largest inputs come first.
    """
    scales = row_scales(rows, power)
    diagonal = np.diag(moments)
    order = np.argsort(-diagonal, kind="stable")
    damped = moments[np.ix_(order, order)].astype(np.float64)
    damped[np.diag_indices_from(damped)] += max(DAMPING * float(diagonal.mean()), MIN_SCALE)
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T  # upper triangular
    left = rows[:, order].copy()
    rounded = np.zeros_like(left)
    # The quantizer takes each row's scale from its largest weight, which therefore keeps the last level.
    largest = np.abs(left).argmax(1)
    last_level = np.sign(np.take_along_axis(left, largest[:, None], 1)) * WEIGHT_LEVELS * scales
    for start in range(0, left.shape[1], BLOCK):
        end = min(start + BLOCK, left.shape[1])
        errors = np.zeros((len(left), end - start))
        for i in range(start, end):
            column = np.where(largest == i, last_level[:, 0], _to_levels(left[:, i : i + 1], scales)[:, 0])
            rounded[:, i] = column
            errors[:, i - start] = (left[:, i] - column) / factor[i, i]
            left[:, i + 1 : end] -= errors[:, i - start, None] * factor[i, i + 1 : end]
        left[:, end:] -= errors @ factor[start:end, end:]
    restored = np.empty_like(rounded)
    restored[:, order] = rounded
    return restored


def _to_levels(rows: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = np.clip(np.round(rows / scales), -WEIGHT_LEVELS, WEIGHT_LEVELS) * scales
    return levels
