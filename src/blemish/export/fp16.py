"""A graph in half precision: half the bytes, and faster where the processor computes with 16 bits.

Only what leads up to a layer with weights is computed in 16 bits. What follows the last of them stays in 32:
box coordinates, scores and suppression need more than the 11 bits of a half float's mantissa (beyond 512
pixels they would step by half a pixel).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from blemish.errors import ExportRefused, MissingExtra
from blemish.export.onnx_export import make_anonymous
from blemish.models._logging_filter import silence

LARGEST_SHARE = 0.505  # of the float32 graph's size; anything more means that weights were left behind
LARGEST_HALF = 65504.0
LEAST_WEIGHTS = 256  # a layer with fewer is arithmetic in disguise, such as YOLO's sum over bins
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Safe in half precision, and not worth a cast on the way to the next layer with weights.
LIGHT = {
    "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Div", "Dropout", "Elu", "Erf", "Expand",
    "Flatten", "Gather", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "MatMul", "MaxPool", "Mish", "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape",
    "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip


def to_half(graph: bytes) -> bytes:
    """The same graph with float16 weights and arithmetic; inputs and outputs stay float32.

    Processors without float16 arithmetic run it in float32, on the rounded weights.

    Args:
        graph: a serialised ONNX ModelProto in float32.

    Returns:
        A serialised ModelProto without metadata.

    Raises:
        ExportRefused: the graph cannot be converted, or hardly gets smaller.
        MissingExtra: `onnx` or `onnxscript` is not installed.
    """
    try:
        import onnx
        import onnx_ir
    except ImportError as error:
        raise MissingExtra("train", "exporting in half precision") from error
    try:
        with silence():
            proto = onnx.load_from_string(graph)
            del proto.metadata_props[:]
            model = onnx_ir.from_proto(onnx.shape_inference.infer_shapes(proto))
            _Conversion(model).run()
            half = onnx_ir.to_proto(model)
            onnx.checker.check_model(half)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportRefused(f"the graph cannot be converted to float16: {reason}") from error
    make_anonymous(half.graph)
    del half.graph.value_info[:]  # whoever runs it infers them again
    data = bytes(half.SerializeToString())
    if len(data) > LARGEST_SHARE * len(graph):
        raise ExportRefused(
            f"the float16 graph takes {len(data) / len(graph):.0%} of the float32 one, more than "
            f"{LARGEST_SHARE:.1%}: it is float16 already, or hardly holds weights"
        )
    return data


class _Conversion:
    """One graph on its way to half precision, its subgraphs included."""

    def __init__(self, model: Any) -> None:
        import onnx_ir

        self.ir = onnx_ir
        self.model = model
        self.single, self.half = onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16
        self.chosen: set[Any] = set()
        self.casts: dict[tuple[int, Any, int], Any] = {}
        self.twins: dict[int, Any] = {}

    def run(self) -> None:
        nodes = list(_nodes(self.model.graph))
        for node in reversed(nodes):
            on_the_way = node.op_type in LIGHT and any(user in self.chosen for user in _users(node))
            typed = all(v is None or v.dtype is not None for v in (*node.inputs, *node.outputs))
            if typed and (on_the_way or self._is_weighted(node)):
                self.chosen.add(node)
        was_single = {id(v) for node in nodes for v in (*node.inputs, *node.outputs) if self._is_single(v)}
        for node in self.chosen:
            for value in node.outputs:
                if self._is_single(value):
                    value.dtype = self.half
        for node in nodes:
            wanted = self.half if node in self.chosen else self.single
            for position, value in enumerate(node.inputs):
                if value is not None and id(value) in was_single and value.dtype != wanted:
                    node.replace_input_with(position, self._as(value, wanted, node))
        for graph in _graphs(self.model.graph):
            self._outputs_in_single(graph)
        self._drop_unused()
        for graph in _graphs(self.model.graph):
            self._store_exact_in_half(graph)
        self._drop_unused()

    def _is_weighted(self, node: Any) -> bool:
        return node.op_type in WEIGHTED and any(
            v is not None
            and _is_initializer(v)
            and self._is_single(v)
            and v.const_value.size >= LEAST_WEIGHTS
            for v in node.inputs
        )

    def _is_single(self, value: Any) -> bool:
        return value is not None and value.dtype == self.single

    def _as(self, value: Any, wanted: Any, node: Any) -> Any:
        """The value in another precision, for a node: a second initializer, or a cast before the node."""
        if _is_initializer(value):
            return self._twin(value)
        key = (id(value), wanted, id(node.graph))
        if key not in self.casts:
            cast = self.ir.node("Cast", [value], attributes={"to": int(wanted)})
            cast.outputs[0].name = f"{value.name}_{wanted.name.lower()}_{len(self.casts)}"
            cast.outputs[0].dtype = wanted
            cast.outputs[0].shape = value.shape
            node.graph.insert_before(node, cast)
            self.casts[key] = cast.outputs[0]
        return self.casts[key]

    def _twin(self, value: Any) -> Any:
        """A float32 initializer's half, beside it in the same graph."""
        if id(value) not in self.twins:
            array = np.clip(value.const_value.numpy(), -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
            twin = self.ir.Value(
                name=f"{value.name}_half",
                type=self.ir.TensorType(self.half),
                shape=value.shape,
                const_value=self.ir.tensor(array, name=f"{value.name}_half"),
            )
            value.graph.register_initializer(twin)
            self.twins[id(value)] = twin
        return self.twins[id(value)]

    def _outputs_in_single(self, graph: Any) -> None:
        for position, value in enumerate(graph.outputs):
            if value.dtype != self.half:
                continue
            name = value.name
            value.name = f"{name}_half"
            cast = self.ir.node("Cast", [value], attributes={"to": int(self.single)})
            cast.outputs[0].name, cast.outputs[0].dtype = name, self.single
            cast.outputs[0].shape = value.shape
            graph.append(cast)
            graph.outputs[position] = cast.outputs[0]

    def _store_exact_in_half(self, graph: Any) -> None:
        """What stays float32 and loses nothing in 16 bits, such as anchor points, is stored in 16 bits."""
        for value in list(graph.initializers.values()):
            if not self._is_single(value) or value.const_value.size < LEAST_WEIGHTS:
                continue
            array = value.const_value.numpy()
            with np.errstate(over="ignore"):
                exact = np.array_equal(array, array.astype(np.float16).astype(np.float32))
            if exact and value not in graph.outputs:
                cast = self.ir.node("Cast", [self._twin(value)], attributes={"to": int(self.single)})
                cast.outputs[0].name, cast.outputs[0].dtype = f"{value.name}_single", self.single
                cast.outputs[0].shape = value.shape
                graph.insert_before(graph[0], cast)
                value.replace_all_uses_with(cast.outputs[0])

    def _drop_unused(self) -> None:
        for graph in _graphs(self.model.graph):
            kept = set(graph.outputs) | set(graph.inputs)
            for name, value in list(graph.initializers.items()):
                if not value.uses() and value not in kept:
                    del graph.initializers[name]


def _is_initializer(value: Any) -> bool:
    return bool(value.is_initializer())


def _users(node: Any) -> Iterator[Any]:
    for value in node.outputs:
        for use in value.uses():
            yield use.node


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph:
        for inner in _subgraphs(node):
            yield from _graphs(inner)


def _nodes(graph: Any) -> Iterator[Any]:
    """Every node, those of a subgraph after the node that holds it."""
    for node in graph:
        yield node
        for inner in _subgraphs(node):
            yield from _nodes(inner)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attributes.values():
        if attribute.type.name == "GRAPH":
            yield attribute.value
        elif attribute.type.name == "GRAPHS":
            yield from attribute.value
