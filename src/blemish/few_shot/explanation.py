"""The explanation graph of a few-shot model: feature maps and the closed-form gradient of its linear head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from blemish.explanation.gradient_graph import EXPLANATION_KEY, SELECTOR, explanation_path
from blemish.few_shot.linear_head import LinearHead
from blemish.few_shot.trunk_graph import FEATURE_LAYERS, GraphParts, add_trunk, receptive_grids
from blemish.model_file import ModelFile, write_atomically


def write_explanation_graph(
    model_file: ModelFile,
    trunk: str,
    state: Mapping[str, NDArray[Any]],
    input_size: int,
    head: LinearHead,
) -> Path:
    """Write the explanation graph beside a model file, bound to it by digest.

    The head is linear in the average and the maximum of each map, so the gradient of a logit with respect
    to a map, with the other map fixed, is the weight of the average divided by the number of cells, plus the
    weight of the maximum at the cell with the maximum.

    Args:
        model_file: the written model file.
        trunk: the architecture's name.
        state: the published tensors by name.
        input_size: height and width of the input, pixels.
        head: the fitted head.

    Returns:
        The path of the graph.
    """
    parts = GraphParts()
    maps = add_trunk(parts, trunk, state, "image", input_size)
    outputs: dict[str, list[int | str]] = {}
    for i, name in enumerate(maps):
        outputs[parts.add("Identity", [name], f"features.{i}")] = ["batch", f"c{i}", f"h{i}", f"w{i}"]
    start = 0
    for i, name in enumerate(maps):
        width = _width(state, i)
        average, maximum = (head.weight[start + k * width : start + (k + 1) * width].T for k in (0, 1))
        start += 2 * width
        _add_gradient(parts, name, average, maximum, f"gradients.{i}")
        outputs[f"gradients.{i}"] = ["batch", f"c{i}", f"h{i}", f"w{i}"]
    label_count = head.weight.shape[1]
    graph = parts.to_bytes(
        {"image": ("batch", 3, input_size, input_size), SELECTOR: ("batch", label_count)}, outputs
    )
    facts = {
        "graph_digests": [model_file.graph_digest],
        "layers": list(FEATURE_LAYERS),
        "output_count": label_count,
        "lattices": receptive_grids(trunk, state, input_size),
    }
    model = onnx.load_from_string(graph)
    helper.set_model_props(model, {EXPLANATION_KEY: json.dumps(facts)})
    path = explanation_path(model_file.path)
    write_atomically(path, model.SerializeToString())
    return path


def _width(state: Mapping[str, NDArray[Any]], layer: int) -> int:
    """Return the number of channels of a feature layer."""
    if layer == len(FEATURE_LAYERS) - 1:
        return int(state["_conv_head.weight"].shape[0])
    widths = [v.shape[0] for k, v in state.items() if k.endswith("_project_conv.weight")]
    return int(widths[_last_block_of_stride16(state)])


def _last_block_of_stride16(state: Mapping[str, NDArray[Any]]) -> int:
    """Return the number of the last block at a sixteenth of the input: four or five blocks before the end."""
    widths = [v.shape[0] for k, v in state.items() if k.endswith("_project_conv.weight")]
    before_last = widths[-2]
    return next(i for i, w in enumerate(widths) if w == before_last) - 1


def _add_gradient(
    parts: GraphParts, name: str, average: NDArray[Any], maximum: NDArray[Any], output: str
) -> None:
    """Append the gradient of the selected logits with respect to one map.

    Args:
        parts: the graph.
        name: the map, (b, c, h, w).
        average: (L, c) weights of its averages.
        maximum: (L, c) weights of its maxima.
        output: the name of the gradient, (b, c, h, w).
    """
    axes = parts.constant("spatial", np.array([2, 3], np.int64))
    weighted = {}
    for kind, weight in (("mean", average), ("max", maximum)):
        constant = parts.constant(f"{name}.{kind}.weight", np.ascontiguousarray(weight, np.float32))
        product = parts.add("MatMul", [SELECTOR, constant], f"{name}.{kind}.selected")
        weighted[kind] = parts.add("Unsqueeze", [product, axes], f"{name}.{kind}.gradient")
    ones = parts.add("Equal", [name, name], f"{name}.same")
    ones = parts.add("Cast", [ones], f"{name}.ones", to=onnx.TensorProto.FLOAT)
    cells = parts.add("ReduceSum", [ones, axes], f"{name}.cells", keepdims=1)
    from_mean = parts.add("Div", [weighted["mean"], cells], f"{name}.from_mean")
    peak = parts.add("GlobalMaxPool", [name], f"{name}.peak")
    at_peak = parts.add("Equal", [name, peak], f"{name}.at_peak")
    is_peak = parts.add("Cast", [at_peak], f"{name}.peaks", to=onnx.TensorProto.FLOAT)
    peaks = parts.add("ReduceSum", [is_peak, axes], f"{name}.peak_count", keepdims=1)
    share = parts.add("Div", [is_peak, peaks], f"{name}.peak_share")
    from_peak = parts.add("Mul", [weighted["max"], share], f"{name}.from_peak")
    parts.add("Add", [from_peak, from_mean], output)
