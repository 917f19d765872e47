"""Find the layers of a graph that can be quantized."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_WEIGHTS = 256  # a layer with fewer is plain arithmetic, such as YOLO's sum over bins
MIN_STEM_INPUTS = 32
WEIGHTED = ("Conv", "Gemm", "MatMul")
# Computed in 8 bits, or moved without computing, by ONNX Runtime on the way to a layer with weights.
LIGHT = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul",
    "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
POOLS = ("GlobalAveragePool", "GlobalMaxPool", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum")


@dataclass(frozen=True)
class Layer:
    """One layer with weights, and the arithmetic between it and the next ones.

    Attributes:
        name: of the node with the weights.
        nodes: names of all its nodes.
        weight_share: share of the weights of all layers, in [0, 1].
        is_head: whether no other layer with weights follows, or only linear ones behind pooled features.
        is_stem: whether it reads the image, and too few numbers for each output: 8-bit products, which are
            computed in groups, take longer than float32 there.
    """

    name: str
    nodes: tuple[str, ...]
    weight_share: float
    is_head: bool
    is_stem: bool = False


def find_layers(graph: Any) -> tuple[Layer, ...]:
    """Return the layers with weights; arithmetic belongs to the last layer that it reads."""
    from onnx import TensorProto

    weights = {t.name: int(np.prod(t.dims)) for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    producer = {output: i for i, node in enumerate(graph.node) for output in node.output}
    sizes = {
        i: weights[node.input[1]]
        for i, node in enumerate(graph.node)
        if node.op_type in WEIGHTED and weights.get(node.input[1], 0) >= MIN_WEIGHTS
    }
    leads_on = _leading_to(graph, set(sizes), producer)
    pools = {i for i, node in enumerate(graph.node) if node.op_type in POOLS}
    behind_pools = _reading_from(graph, pools, producer)
    others = {i for i in sizes if graph.node[i].op_type == "Conv" or i not in behind_pools}
    leads_to_others = _leading_to(graph, others, producer)
    body = {i for i in sizes if i in leads_to_others or (i in others and i in leads_on)}
    pooled = _pooled_features(graph, sizes, body, producer)
    members: dict[int, list[int]] = {i: [] for i in sizes}
    owner: dict[int, int] = {}
    for i, node in enumerate(graph.node):
        before = [owner[producer[name]] for name in node.input if producer.get(name) in owner]
        if i in sizes:
            owner[i] = i
        elif before:
            owner[i] = max(before)
        if i in sizes or (i in leads_on - pooled and i in owner and node.op_type in LIGHT):
            members[owner[i]].append(i)
    total = sum(sizes.values())
    return tuple(
        Layer(
            graph.node[i].name,
            tuple(graph.node[j].name for j in members[i]),
            sizes[i] / total,
            i not in body,
            _is_stem(graph, i),
        )
        for i in sizes
    )


def silu_inputs(graph: Any) -> tuple[str, ...]:
    """Return the tensors that only the function x * sigmoid(x) reads."""
    readers: dict[str, list[Any]] = {}
    outputs = {x.name for x in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.node:
        name = node.input[0] if node.op_type == "Sigmoid" else ""
        others = [reader for reader in readers.get(name, ()) if reader is not node]
        if name in outputs:
            continue
        if len(others) == 1 and others[0].op_type == "Mul" and set(others[0].input) == {name, node.output[0]}:
            found.append(name)
    return tuple(found)


def _is_stem(graph: Any, number: int) -> bool:
    node = graph.node[number]
    sizes = next(tuple(t.dims) for t in graph.initializer if t.name == node.input[1])
    reads_image = node.input[0] in {x.name for x in graph.input}
    return node.op_type == "Conv" and reads_image and int(np.prod(sizes[1:])) < MIN_STEM_INPUTS


def _leading_to(graph: Any, targets: set[int], producer: dict[str, int]) -> set[int]:
    """Return the numbers of the nodes from which a path leads to one of the targets."""
    found: set[int] = set()
    for i in reversed(range(len(graph.node))):
        if i in targets or i in found:
            found.update(producer[name] for name in graph.node[i].input if name in producer)
    return found


def _reading_from(graph: Any, sources: set[int], producer: dict[str, int]) -> set[int]:
    """Return the numbers of the nodes to which a path leads from one of the sources."""
    found: set[int] = set()
    for i, node in enumerate(graph.node):
        if any(producer.get(name) in sources or producer.get(name) in found for name in node.input):
            found.add(i)
    return found


def _pooled_features(
    graph: Any, weighted: Collection[int], body: set[int], producer: dict[str, int]
) -> set[int]:
    """Return the nodes around a pooling to one cell that leads to heads only.

    One rounded number of a pooled feature has no neighbors that average its error; it stays float32.
    """
    kept = body | _leading_to(graph, body, producer)
    pools = {i for i, node in enumerate(graph.node) if node.op_type in POOLS and i not in kept}
    found = pools | {i for i in _leading_to(graph, pools, producer) if i not in kept and i not in weighted}
    for i, node in enumerate(graph.node):
        reads = {producer[name] for name in node.input if name in producer}
        if i not in kept and i not in weighted and reads & found:
            found.add(i)
    return found
