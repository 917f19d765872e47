"""Return layers of an INT8 graph to float32 until it decides as the float32 graph does.

Every step is bounded: the layers are ranked once, by what the error of the outputs loses when one of them
stays float32; then the first 1, 2, 4, … of them stay float32 until the comparison passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.export.int8 import Int8Graph
from blemish.export.int8_statistics import Feeds
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend

MAX_FLOAT_SHARE = 0.5  # of the layers; with more in float32, INT8 is of little use
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class QuantizedGraph:
    """An INT8 graph.

    Attributes:
        graph: a serialized ModelProto.
        float_layers: names of the layers that stay float32.
    """

    graph: bytes
    float_layers: tuple[str, ...]


def float_counts(layer_count: int) -> list[int]:
    """Return how many layers return to float32 in each step.

    Example:
        >>> float_counts(20)
        [1, 2, 4, 8]
    """
    counts = [1]
    while counts[-1] * 2 <= layer_count * MAX_FLOAT_SHARE:
        counts.append(counts[-1] * 2)
    return counts


def control_accuracy(
    int8: Int8Graph,
    source: bytes,
    count_failures: Callable[[bytes], int],
    typical_images: Callable[[], Sequence[Feeds]],
    hard_images: Callable[[], Sequence[Feeds]],
    progress: Progress,
) -> QuantizedGraph:
    """Return the INT8 graph with the fewest layers in float32 that passes.

    Args:
        int8: the graph and its layers.
        source: the float32 graph, a serialized ModelProto.
        count_failures: returns on how many images an INT8 graph decides differently, at least, or 0 if it
            passes.
        typical_images: returns inputs for choosing the ranges of the activations.
        hard_images: returns inputs of images on which a graph decided differently, for the ranking.
        progress: called with the stage, and the number of finished steps and of all.

    Returns:
        The graph that passed; if none did, the one with the fewest failures.
    """
    heads = int8.heads()
    images = typical_images()
    expected = outputs_of(source, images)
    errors = {}
    for ranges in ("mean", "extremes"):
        int8.use_ranges(ranges)
        errors[ranges] = output_error(expected, outputs_of(int8.build(heads), images))
    int8.use_ranges(min(errors, key=lambda ranges: errors[ranges]))
    best = QuantizedGraph(int8.build(heads), heads)
    fewest = count_failures(best.graph)
    if not fewest:
        return best
    images = hard_images()
    expected = outputs_of(source, images)
    rest = [layer.name for layer in int8.layers if layer.name not in heads]
    errors = {}
    for i, name in enumerate(rest):
        errors[name] = output_error(expected, outputs_of(int8.build((*heads, name)), images))
        progress("ranking layers", i + 1, len(rest))
    ranked = sorted(rest, key=lambda name: errors[name])
    counts = float_counts(len(rest))
    low = 0  # the largest number that did not pass
    for step, count in enumerate(counts):
        tried = _with_float(int8, heads, ranked[:count])
        failures = count_failures(tried.graph)
        progress("returning layers to float32", step + 1, len(counts))
        if failures < fewest:
            best, fewest = tried, failures
        if not failures:
            break
        low = count
    else:
        return best
    high = count
    while high - low > 1:  # fewer may be enough
        middle = (low + high) // 2
        fewer = _with_float(int8, heads, ranked[:middle])
        if count_failures(fewer.graph):
            low = middle
        else:
            best, high = fewer, middle
    return best


def _with_float(int8: Int8Graph, heads: Sequence[str], names: Sequence[str]) -> QuantizedGraph:
    layers = (*heads, *names)
    return QuantizedGraph(int8.build(layers), layers)


def outputs_of(graph: bytes, images: Sequence[Feeds]) -> list[Mapping[str, NDArray[np.float32]]]:
    """Return the outputs of a graph for each image."""
    backend = OnnxRuntimeBackend(graph, device="cpu")
    return [backend.run(feeds) for feeds in images]


def output_error(
    expected: Sequence[Mapping[str, NDArray[np.float32]]], actual: Sequence[Mapping[str, NDArray[np.float32]]]
) -> float:
    """Return the mean error of the outputs as a share of their spread; outputs of other shapes count as 1."""
    errors = []
    for first, second in zip(expected, actual, strict=True):
        for name, values in first.items():
            if not np.issubdtype(values.dtype, np.floating):
                continue
            if second[name].shape != values.shape:
                errors.append(1.0)
                continue
            spread = float(np.abs(values - values.mean()).mean()) or 1.0
            errors.append(float(np.abs(values - second[name]).mean()) / spread)
    return float(np.mean(errors)) if errors else 0.0
