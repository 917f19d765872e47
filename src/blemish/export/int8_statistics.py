"""Measure the activations of a graph on calibration images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.export.int8_layers import LIGHT, WEIGHTED
from blemish.export.int8_moments import IMAGES, InputMoments
from blemish.inference.backend import available_cores

Feeds = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Activations:
    """What calibration images show of the activations of a graph.

    Attributes:
        mean_ranges: smallest and largest value by tensor, each the mean over images of that of one image.
        extremes: smallest and largest value by tensor over all images.
        means: by input of a convolution or linear layer, (c,) mean of each channel.
        powers: by the same, (c,) mean of the square of each channel.
        moments: by layer, (m, m) means of the products of the numbers that one of its outputs reads; not of
            every layer, see `InputMoments`.
    """

    mean_ranges: Mapping[str, tuple[float, float]]
    extremes: Mapping[str, tuple[float, float]]
    means: Mapping[str, NDArray[np.float64]]
    powers: Mapping[str, NDArray[np.float64]]
    moments: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def measure_activations(
    proto: Any,
    images: Iterable[Feeds],
    progress: Callable[[], None] | None,
    layer_names: Sequence[str] = (),
) -> Activations:
    """Return the statistics of the activations that quantization needs.

    Args:
        proto: a ModelProto in float32 with inferred shapes.
        images: inputs of single images, (1, c, h, w) float32 by input name.
        progress: called after each image.
        layer_names: of the layers whose weights will be rounded.
    """
    import onnxruntime as ort
    from onnx import ModelProto, TensorProto, ValueInfoProto, helper

    model = ModelProto()
    model.CopyFrom(proto)
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    known = (*graph.value_info, *graph.input, *graph.output)
    ranks = {
        v.name: len(v.type.tensor_type.shape.dim)
        for v in known
        if v.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    nodes = [node for node in graph.node if node.op_type in (*WEIGHTED, *LIGHT)]
    tensors = sorted({n for x in nodes for n in (*x.input, *x.output)} & set(ranks) - constants)
    inputs = sorted({x.input[0] for x in nodes if x.op_type in WEIGHTED} & set(tensors))
    asked = [(kind, name) for name in tensors for kind in ("ReduceMin", "ReduceMax")]
    asked += [(kind, name) for name in inputs for kind in ("ReduceMean", "ReduceSumSquare")]
    for i, (kind, name) in enumerate(asked):
        attributes: dict[str, Any] = {"keepdims": 0}
        operands = [name]
        if kind in (
            "ReduceMean",
            "ReduceSumSquare",
        ):  # the channels are the second of four axes, else the last
            axes = [0, *range(2, ranks[name])] if ranks[name] == 4 else [*range(ranks[name] - 1)]
            if _opset(model) >= 18:
                graph.initializer.append(
                    helper.make_tensor(f"blemish.axes.{i}", TensorProto.INT64, [len(axes)], axes)
                )
                operands.append(f"blemish.axes.{i}")
            else:
                attributes["axes"] = axes
        graph.node.append(helper.make_node(kind, operands, [f"blemish.{i}"], **attributes))
        graph.output.append(ValueInfoProto(name=f"blemish.{i}"))
    products = InputMoments(graph, layer_names)
    own = {x.name for x in (*graph.input, *graph.output)}
    graph.output.extend(ValueInfoProto(name=name) for name in products.tensors if name not in own)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = available_cores()
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [f"blemish.{i}" for i in range(len(asked))]
    totals: list[Any] = [0.0] * len(asked)
    extremes: dict[tuple[str, str], float] = {}
    count = 0
    inputs_of_graph = {x.name for x in graph.input}
    sampled = [name for name in products.tensors if name not in inputs_of_graph]
    for feeds in images:
        asked_names = [*names, *sampled] if count < IMAGES else names
        values = session.run(asked_names, dict(feeds))
        if count < IMAGES:
            products.add(dict(feeds) | dict(zip(sampled, values[len(names) :], strict=True)))
        for i, value in enumerate(values[: len(names)]):
            totals[i] = totals[i] + np.asarray(value, np.float64)
            if asked[i][0] == "ReduceMin":
                extremes[asked[i]] = min(extremes.get(asked[i], np.inf), float(value))
            elif asked[i][0] == "ReduceMax":
                extremes[asked[i]] = max(extremes.get(asked[i], -np.inf), float(value))
        count += 1
        if progress is not None:
            progress()
    found = {key: total / max(count, 1) for key, total in zip(asked, totals, strict=True)}
    return Activations(
        {n: (float(found["ReduceMin", n]), float(found["ReduceMax", n])) for n in tensors},
        {n: (extremes["ReduceMin", n], extremes["ReduceMax", n]) for n in tensors},
        {n: found["ReduceMean", n] for n in inputs},
        {n: found["ReduceSumSquare", n] for n in inputs},
        products.moments(),
    )


def tensors_data(ranges: Mapping[str, tuple[float, float]]) -> Any:
    """Return ranges as the quantizer takes them."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import TensorsData

    pairs = {name: (np.float32(a), np.float32(b)) for name, (a, b) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, pairs)


def _opset(model: Any) -> int:
    return next(int(x.version) for x in model.opset_import if x.domain in ("", "ai.onnx"))
