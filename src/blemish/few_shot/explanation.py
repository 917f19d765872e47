"""The explanation graph of a few-shot model: feature maps and the closed-form gradient of its linear head."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from blemish.explanation.gradient_graph import EXPLANATION_KEY, SELECTOR, explanation_path
from blemish.few_shot.features import POOLS, add_pools
from blemish.few_shot.linear_head import LinearHead
from blemish.few_shot.trunk_graph import (
    FEATURE_LAYERS,
    FIRST_FEATURE_STAGE,
    STAGE_STRIDES,
    GraphParts,
    add_trunk,
    receptive_grids,
)
from blemish.model_file import ModelFile, write_atomically
from blemish.pretrained import BLOCKS

POOLING_LAYER = "pooling"
WINDOW = 3  # width of a left-out window, in steps from one window to the next


def write_explanation_graph(
    model_file: ModelFile,
    trunk: str,
    state: Mapping[str, NDArray[Any]],
    input_size: int,
    head: LinearHead,
    typical_images: Sequence[NDArray[np.float32]] = (),
) -> Path:
    """Write the explanation graph beside a model file, bound to it by digest.

    The head is linear in the mean, the maximum and the standard deviation of each map, so the gradient of a
    logit with respect to a map, with the other maps fixed, is in closed form: of n cells, each has the weight
    of the mean / n and the weight of the standard deviation times (value - mean) / (n std), and the cell with
    the maximum has the weight of the maximum too.

    A gradient knows nothing of the second highest cell: it gives the whole weight of a maximum to one cell,
    even if many others are nearly as high. The layer `POOLING_LAYER` is exact instead: its one feature is the
    fall of the logit when a window of cells is left out of every pool of every map, and its gradient is 1.
    The mean fall at the same place in `typical_images` is subtracted, because the frame of an object, and the
    padding at the border, weigh on every image alike.

    Args:
        model_file: the written model file.
        trunk: the architecture's name.
        state: the published tensors by name.
        input_size: height and width of the input, pixels.
        head: the fitted head.
        typical_images: inputs of the trunk, each (3, input_size, input_size).

    Returns:
        The path of the graph.
    """
    label_count, side = head.weight.shape[1], grid_side(input_size)
    zero = np.zeros((label_count, side * side), np.float32)
    graph = _explanation_model(trunk, state, input_size, head, zero)
    if len(typical_images):
        graph = _explanation_model(
            trunk, state, input_size, head, _mean_falls(graph, typical_images, label_count)
        )
    facts = {
        "graph_digests": [model_file.graph_digest],
        "layers": [*FEATURE_LAYERS, POOLING_LAYER],
        "output_count": label_count,
        "receptive_grids": {
            **receptive_grids(trunk, state, input_size),
            POOLING_LAYER: {"start_yx": [0.5 / side] * 2, "stride_yx": [1 / side] * 2},
        },
    }
    model = onnx.load_from_string(graph)
    helper.set_model_props(model, {EXPLANATION_KEY: json.dumps(facts)})
    path = explanation_path(model_file.path)
    write_atomically(path, model.SerializeToString())
    return path


def _mean_falls(graph: bytes, images: Sequence[NDArray[np.float32]], label_count: int) -> NDArray[np.float32]:
    """Return the mean over images of the feature of `POOLING_LAYER`, (L, windows) float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    selectors = np.eye(label_count, dtype=np.float32)
    total: NDArray[np.float64] = np.zeros((label_count, 1))
    for image in images:  # one label at a time: the windows take memory
        rows = [
            session.run([f"features.{len(FEATURE_LAYERS)}"], {"image": image[None], SELECTOR: row[None]})[0]
            for row in selectors
        ]
        total = total + np.concatenate(rows).reshape(label_count, -1)
    return np.asarray(total / len(images), np.float32)


def _explanation_model(
    trunk: str,
    state: Mapping[str, NDArray[Any]],
    input_size: int,
    head: LinearHead,
    mean_falls: NDArray[np.float32],
) -> bytes:
    """Return the explanation graph without metadata; `mean_falls` (L, windows) are subtracted."""
    parts = GraphParts()
    maps = add_trunk(parts, trunk, state, "image", input_size)
    outputs: dict[str, list[int | str]] = {}
    for i, name in enumerate(maps):
        outputs[parts.add("Identity", [name], f"features.{i}")] = ["batch", f"c{i}", f"h{i}", f"w{i}"]
    start = 0
    widths = feature_widths(trunk, state)
    starts = np.cumsum([0, *(len(POOLS) * width for width in widths)])
    for i, (name, width, start) in enumerate(zip(maps, widths, starts, strict=False)):
        weights = [head.weight[start + k * width : start + (k + 1) * width].T for k in range(len(POOLS))]
        _add_gradient(parts, name, weights, f"gradients.{i}")
        outputs[f"gradients.{i}"] = ["batch", f"c{i}", f"h{i}", f"w{i}"]
    side = grid_side(input_size)
    typical = parts.constant(f"{POOLING_LAYER}.typical", mean_falls)
    falls = [
        _add_falls(
            parts, name, head.weight[start : start + len(POOLS) * width], f"{POOLING_LAYER}.{i}", size, side
        )
        for i, (name, width, start, size) in enumerate(
            zip(maps, widths, starts, map_sizes(input_size), strict=False)
        )
    ]
    expected = parts.add("MatMul", [SELECTOR, typical], f"{POOLING_LAYER}.expected")
    total = parts.add(
        "Sub", [parts.add("Sum", falls, f"{POOLING_LAYER}.sum"), expected], f"{POOLING_LAYER}.total"
    )
    shape = parts.constant(f"{POOLING_LAYER}.shape", np.array([-1, 1, side, side], np.int64))
    last = len(maps)
    parts.add("Reshape", [total, shape], f"features.{last}")
    same = parts.add("Equal", [f"features.{last}", f"features.{last}"], f"{POOLING_LAYER}.same")
    parts.add("Cast", [same], f"gradients.{last}", to=onnx.TensorProto.FLOAT)
    for kind in ("features", "gradients"):
        outputs[f"{kind}.{last}"] = ["batch", 1, side, side]
    outputs = {name: outputs[name] for name in sorted(outputs)}  # every map, then every gradient
    return parts.to_bytes(
        {"image": ("batch", 3, input_size, input_size), SELECTOR: ("batch", head.weight.shape[1])}, outputs
    )


def grid_side(input_size: int) -> int:
    """Return the number of windows per side of `POOLING_LAYER`: one per 16 pixels of the input."""
    return -(-input_size // 16)


def map_sizes(input_size: int) -> list[int]:
    """Return the height and width of each feature layer in cells."""
    sizes, size = [], -(-input_size // 2)  # behind the stem
    for stage, stride in enumerate(STAGE_STRIDES):
        size = -(-size // stride)
        if stage >= FIRST_FEATURE_STAGE:
            sizes.append(size)
    return sizes


def window_masks(size: int, side: int) -> NDArray[np.bool_]:
    """Return which cells of a map lie in each window.

    Args:
        size: height and width of the map in cells.
        side: windows per side; each covers `WINDOW` / side of the image's height and width.

    Returns:
        (side * side, size * size) bool. A window that would cover every cell covers none.
    """
    cells = (np.arange(size) + 0.5) / size
    centers = (np.arange(side) + 0.5) / side
    inside = np.abs(cells[None] - centers[:, None]) <= WINDOW / 2 / side + 1e-9  # (side, size)
    masks = (inside[:, None, :, None] & inside[None, :, None, :]).reshape(side * side, size * size)
    masks[masks.all(1)] = False
    return masks


def _add_falls(parts: GraphParts, name: str, weight: NDArray[Any], output: str, size: int, side: int) -> str:
    """Append the fall of the selected logits when each window of cells is left out of the pools of one map.

    Args:
        parts: the graph; `add_pools` has been called for the map.
        name: the map, (b, c, size, size).
        weight: (3 c, L) of its means, maxima and standard deviations.
        output: beginning of the names of the new nodes.
        size: height and width of the map in cells.
        side: windows per side.

    Returns:
        The name of the falls, (b, side * side).
    """
    masks = window_masks(size, side)
    kept = (~masks).T / (~masks).sum(1)  # (cells, windows): the mean of the cells that are left
    share = parts.constant(f"{output}.share", kept.astype(np.float32))
    hidden = parts.constant(f"{output}.hidden", np.where(masks, -np.float32(1e30), np.float32(0))[:, None])
    flat_shape = parts.constant("flat", np.array([0, 0, -1], np.int64))
    last = parts.constant("last", np.array([-1], np.int64))
    second = parts.constant("second", np.array([1], np.int64))
    centered = parts.add("Reshape", [f"{name}.centered", flat_shape], f"{output}.centered")  # (b, c, cells)
    squared = parts.add("Reshape", [f"{name}.squared", flat_shape], f"{output}.squared")
    shift = parts.add("MatMul", [centered, share], f"{output}.shift")  # (b, c, windows)
    moment = parts.add("MatMul", [squared, share], f"{output}.moment")
    variance = parts.add(
        "Sub", [moment, parts.add("Mul", [shift, shift], f"{output}.shift2")], f"{output}.variance"
    )
    above = parts.add("Relu", [variance], f"{output}.above")  # rounding may leave a variance below 0
    safe = parts.add("Add", [above, "variance.floor"], f"{output}.safe")
    deviation = parts.add("Sqrt", [safe], f"{output}.deviation")
    rows = parts.add("Unsqueeze", [centered, second], f"{output}.rows")  # (b, 1, c, cells)
    shown = parts.add("Add", [rows, hidden], f"{output}.shown")  # (b, windows, c, cells)
    highest = parts.add("ReduceMax", [shown], f"{output}.highest", axes=[-1], keepdims=0)
    highest = parts.add("Transpose", [highest], f"{output}.highest2", perm=[0, 2, 1])
    full_std = parts.add("Reshape", [f"{name}.std", flat_shape], f"{output}.std")  # (b, c, 1)
    full_max = parts.add("ReduceMax", [centered], f"{output}.max", axes=[-1], keepdims=1)
    changes = [
        parts.add("Neg", [shift], f"{output}.mean_fall"),
        parts.add("Sub", [full_max, highest], f"{output}.max_fall"),
        parts.add("Sub", [full_std, deviation], f"{output}.std_fall"),
    ]
    falls = parts.add("Concat", changes, f"{output}.falls", axis=1)  # (b, 3 c, windows)
    constant = parts.constant(f"{output}.weight", np.ascontiguousarray(weight.T, np.float32))
    selected = parts.add("MatMul", [SELECTOR, constant], f"{output}.selected")  # (b, 3 c)
    column = parts.add("Unsqueeze", [selected, last], f"{output}.column")
    weighted = parts.add("Mul", [falls, column], f"{output}.weighted")
    return parts.add("ReduceSum", [weighted, second], f"{output}.sum", keepdims=0)


def feature_widths(trunk: str, state: Mapping[str, NDArray[Any]]) -> list[int]:
    """Return the number of channels of each feature layer."""
    ends = np.cumsum(BLOCKS[trunk])[FIRST_FEATURE_STAGE:] - 1
    return [int(state[f"_blocks.{block}._project_conv.weight"].shape[0]) for block in ends]


def _add_gradient(parts: GraphParts, name: str, weights: Sequence[NDArray[Any]], output: str) -> None:
    """Append the gradient of the selected logits with respect to one map.

    Args:
        parts: the graph.
        name: the map, (b, c, h, w).
        weights: (L, c) of its means, maxima and standard deviations.
        output: the name of the gradient, (b, c, h, w).
    """
    axes = parts.constant("spatial", np.array([2, 3], np.int64))
    mean, peak, std = add_pools(parts, name)
    weighted = {}
    for kind, weight in zip(POOLS, weights, strict=True):
        constant = parts.constant(f"{name}.{kind}.weight", np.ascontiguousarray(weight, np.float32))
        product = parts.add("MatMul", [SELECTOR, constant], f"{name}.{kind}.selected")
        weighted[kind] = parts.add("Unsqueeze", [product, axes], f"{name}.{kind}.gradient")
    ones = parts.add("Equal", [name, name], f"{name}.same")
    ones = parts.add("Cast", [ones], f"{name}.ones", to=onnx.TensorProto.FLOAT)
    cells = parts.add("ReduceSum", [ones, axes], f"{name}.cells", keepdims=1)
    deviation = parts.add("Div", [parts.add("Sub", [name, mean], f"{name}.deviation"), std], f"{name}.unit")
    from_std = parts.add("Mul", [deviation, weighted["std"]], f"{name}.from_std")
    spread = parts.add("Add", [from_std, weighted["mean"]], f"{name}.spread")
    from_all = parts.add("Div", [spread, cells], f"{name}.from_all")
    at_peak = parts.add("Equal", [name, peak], f"{name}.at_peak")
    is_peak = parts.add("Cast", [at_peak], f"{name}.peaks", to=onnx.TensorProto.FLOAT)
    peaks = parts.add("ReduceSum", [is_peak, axes], f"{name}.peak_count", keepdims=1)
    share = parts.add("Div", [is_peak, peaks], f"{name}.peak_share")
    from_peak = parts.add("Mul", [weighted["max"], share], f"{name}.from_peak")
    parts.add("Add", [from_peak, from_all], output)
