"""Convert a graph to half precision: half the size, and faster on processors with 16-bit arithmetic.

Only nodes that lead to a layer with weights compute in 16 bits. Nodes behind the last such layer stay in 32
bits: box coordinates, scores and NMS need more than the 11 bits of a half float's mantissa (beyond 512
pixels, coordinates would have steps of half a pixel).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from blemish.errors import ExportRefused, MissingExtra
from blemish.export.anonymous import make_anonymous
from blemish.models._logging_filter import silence

MAX_SIZE_SHARE = 0.505  # of the float32 graph's size; with more, weights were not converted
MAX_HALF = 65504.0
MIN_WEIGHTS = 256  # a layer with fewer is plain arithmetic, such as YOLO's sum over bins
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Safe in half precision; on the way to a layer with weights, a cast would cost more than it saves.
LIGHT = {
    "Add", "AveragePool", "Clip", "Concat", "DepthToSpace", "Div", "Dropout", "Elu", "Erf", "Expand",
    "Flatten", "Gather", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "MatMul", "MaxPool", "Mish", "Mul", "Neg", "PRelu", "Pad", "Relu", "Reshape",
    "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip


def to_half(graph: bytes) -> bytes:
    """Return the graph with float16 weights and arithmetic; inputs and outputs stay float32.

    Processors without float16 arithmetic run it in float32, with the rounded weights.

    Args:
        graph: a serialized ONNX ModelProto in float32.

    Returns:
        A serialized ModelProto without metadata.

    Raises:
        ExportRefused: the graph cannot be converted ("export-refused.no-fp16"), or hardly gets smaller
            ("export-refused.not-smaller").
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
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportRefused(
            f"the graph cannot be converted to float16: {detail}", reason="no-fp16"
        ) from error
    make_anonymous(half.graph)
    del half.graph.value_info[:]  # the runtime infers them again
    data = bytes(half.SerializeToString())
    if len(data) > MAX_SIZE_SHARE * len(graph):
        raise ExportRefused(
            f"the float16 graph has {len(data) / len(graph):.0%} of the float32 graph's size, more than "
            f"{MAX_SIZE_SHARE:.1%}: the source is float16 already, or contains hardly any weights",
            reason="not-smaller",
        )
    return data


class _Conversion:
    """The conversion of one graph and its subgraphs to half precision."""

    def __init__(self, model: Any) -> None:
        import onnx_ir

        self.ir = onnx_ir
        self.model = model
        self.single, self.half = onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16
        self.chosen: set[Any] = set()
        self.casts: dict[tuple[int, Any, int], Any] = {}
        self.half_initializers: dict[int, Any] = {}

    def run(self) -> None:
        nodes = list(_nodes(self.model.graph))
        for node in reversed(nodes):
            feeds_half = node.op_type in LIGHT and any(user in self.chosen for user in _users(node))
            typed = all(v is None or v.dtype is not None for v in (*node.inputs, *node.outputs))
            if typed and (feeds_half or self._is_weighted(node)):
                self.chosen.add(node)
        was_single = {id(v) for node in nodes for v in (*node.inputs, *node.outputs) if self._is_single(v)}
        for node in self.chosen:
            for value in node.outputs:
                if self._is_single(value):
                    value.dtype = self.half
        for node in nodes:
            precision = self.half if node in self.chosen else self.single
            for position, value in enumerate(node.inputs):
                if value is not None and id(value) in was_single and value.dtype != precision:
                    node.replace_input_with(position, self._converted(value, precision, node))
        for graph in _graphs(self.model.graph):
            self._outputs_in_single(graph)
        self._drop_unused()
        for graph in _graphs(self.model.graph):
            self._store_exact_in_half(graph)
        self._drop_unused()

    def _is_weighted(self, node: Any) -> bool:
        return node.op_type in WEIGHTED and any(
            v is not None and _is_initializer(v) and self._is_single(v) and v.const_value.size >= MIN_WEIGHTS
            for v in node.inputs
        )

    def _is_single(self, value: Any) -> bool:
        return value is not None and value.dtype == self.single

    def _converted(self, value: Any, precision: Any, node: Any) -> Any:
        """Return a value in another precision for a node: a second initializer, or a cast before the node."""
        if _is_initializer(value):
            return self._half_initializer(value)
        key = (id(value), precision, id(node.graph))
        if key not in self.casts:
            cast = self.ir.node("Cast", [value], attributes={"to": int(precision)})
            cast.outputs[0].name = f"{value.name}_{precision.name.lower()}_{len(self.casts)}"
            cast.outputs[0].dtype = precision
            cast.outputs[0].shape = value.shape
            node.graph.insert_before(node, cast)
            self.casts[key] = cast.outputs[0]
        return self.casts[key]

    def _half_initializer(self, value: Any) -> Any:
        """Return a float16 copy of an initializer, in the same graph."""
        if id(value) not in self.half_initializers:
            array = np.clip(value.const_value.numpy(), -MAX_HALF, MAX_HALF).astype(np.float16)
            half = self.ir.Value(
                name=f"{value.name}_half",
                type=self.ir.TensorType(self.half),
                shape=value.shape,
                const_value=self.ir.tensor(array, name=f"{value.name}_half"),
            )
            value.graph.register_initializer(half)
            self.half_initializers[id(value)] = half
        return self.half_initializers[id(value)]

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
        """Store in 16 bits what stays float32 and is exact in 16 bits, such as anchor points."""
        for value in list(graph.initializers.values()):
            if not self._is_single(value) or value.const_value.size < MIN_WEIGHTS:
                continue
            array = value.const_value.numpy()
            with np.errstate(over="ignore"):
                exact = np.array_equal(array, array.astype(np.float16).astype(np.float32))
            if exact and value not in graph.outputs:
                cast = self.ir.node(
                    "Cast", [self._half_initializer(value)], attributes={"to": int(self.single)}
                )
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
    """Yield every node; those of a subgraph follow the node that contains it."""
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
