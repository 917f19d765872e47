"""Networks of a few numbers as ONNX files, so that tests of prediction need no torch.

Import it through the fixture `tiny` of `tests/inference/conftest.py`, or load it by path.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from blemish.model_file import (
    Contract,
    DecoderSpec,
    InputSpec,
    LabelSpec,
    ModelFile,
    OutputSpec,
    write_model_file,
)
from blemish.structures import Task


def serialised(nodes: Any, inputs: Any, outputs: Any, constants: Any, *, opset: int = 17) -> bytes:
    """Return a graph as bytes; None in a shape is the batch."""

    def infos(shapes, kinds=None):
        return [
            helper.make_tensor_value_info(
                name, (kinds or {}).get(name, TensorProto.FLOAT), ["batch" if s is None else s for s in shape]
            )
            for name, shape in shapes.items()
        ]

    kinds = {name: TensorProto.INT64 for name in outputs if name == "labels"}
    graph = helper.make_graph(
        nodes,
        "tiny",
        infos(inputs),
        infos(outputs, kinds),
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def scores_graph(label_count: int = 2, size_hw: tuple[int, int] = (8, 8), seed: int = 0) -> bytes:
    """Return a graph of logits (b, L): a fixed linear map of every pixel of the image (b, 3, h, w)."""
    height, width = size_hw
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.3, (3 * height * width, label_count)).astype(np.float32)
    bias = rng.normal(0, 0.1, label_count).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    return serialised(
        nodes,
        {"image": (None, 3, height, width)},
        {"logits": (None, label_count)},
        {"weight": weight, "bias": bias},
    )


def fixed_graph(size_hw: tuple[int, int] = (8, 8), **outputs: Any) -> bytes:
    """Return a graph that outputs the given arrays (without batch axis) for every image."""
    height, width = size_hw
    nodes = [
        helper.make_node("Shape", ["image"], ["batch"], start=0, end=1),
    ]
    constants, shapes = {}, {}
    for name, array in outputs.items():
        array = np.asarray(array)
        constants[f"{name}_one"] = array[None]
        constants[f"{name}_shape"] = np.array(array.shape, np.int64)
        nodes.append(helper.make_node("Concat", ["batch", f"{name}_shape"], [f"{name}_full"], axis=0))
        nodes.append(helper.make_node("Expand", [f"{name}_one", f"{name}_full"], [name]))
        shapes[name] = (None, *array.shape)
    return serialised(nodes, {"image": (None, 3, height, width)}, shapes, constants)


def contract(
    task: Task = Task.CLASSIFICATION,
    labels: Sequence[str] = ("fine", "dented"),
    size_hw: tuple[int, int] = (8, 8),
    **fields: Any,
) -> Contract:
    """Return a contract for `scores_graph`; fields replace the defaults."""
    defaults = {
        "architecture": "tiny",
        "task": task,
        "labels": tuple(LabelSpec(name=n, display_name=n.title()) for n in labels),
        "inputs": (InputSpec(size_hw=size_hw),),
        "outputs": (OutputSpec(name="logits", role="scores", activation="logits"),),
        "decoder": DecoderSpec(name="scores"),
    }
    return Contract(**{**defaults, **fields})


def write_scores_model(
    path: Path,
    *,
    task: Task = Task.CLASSIFICATION,
    labels: Sequence[str] = ("fine", "dented"),
    seed: int = 0,
    **fields: Any,
) -> ModelFile:
    """Write a model file of a linear network and return the opened ModelFile."""
    model_contract = contract(task, labels, **fields)
    graph = scores_graph(len(labels), model_contract.inputs[0].size_hw, seed)
    return write_model_file(path, graph, model_contract)
