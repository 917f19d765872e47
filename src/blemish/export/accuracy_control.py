"""Return layers of an INT8 graph to float32 until it decides as the float32 graph does.

Every step is bounded: the layers are ranked once, by what the error of the predictions loses when one of them
stays float32; then the first 1, 2, 4, … of them stay float32 until the comparison passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from blemish.export.int8 import Int8Graph

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


class Trial(Protocol):
    """What accuracy control asks of INT8 graphs, serialized ModelProtos."""

    def count_failures(self, graph: bytes) -> int:
        """Return on how many images a graph decides differently, at least, or 0 if it passes."""
        ...

    def typical_error(self, graph: bytes) -> float:
        """Return the mean error of a graph's predictions of typical images."""
        ...

    def hard_error(self, graph: bytes) -> float:
        """Return the same of images on which a graph decided differently."""
        ...


def control_accuracy(int8: Int8Graph, trial: Trial, progress: Progress) -> QuantizedGraph:
    """Return the INT8 graph with the fewest layers in float32 that passes.

    Args:
        int8: the graph and its layers.
        trial: compares INT8 graphs with the float32 graph.
        progress: called with the stage, and the number of finished steps and of all.

    Returns:
        The graph that passed; if none did, the one with the fewest failures.
    """
    kept = int8.kept_layers()
    errors = {}
    for ranges in ("mean", "extremes"):
        int8.use_ranges(ranges)
        errors[ranges] = trial.typical_error(int8.build(kept))
    int8.use_ranges(min(errors, key=lambda ranges: errors[ranges]))
    best = QuantizedGraph(int8.build(kept), kept)
    fewest = trial.count_failures(best.graph)
    if not fewest:
        return best
    rest = [layer.name for layer in int8.layers if layer.name not in kept]
    errors = {}
    for i, name in enumerate(rest):
        errors[name] = trial.hard_error(int8.build((*kept, name)))
        progress("ranking layers", i + 1, len(rest))
    ranked = sorted(rest, key=lambda name: errors[name])
    counts = float_counts(len(rest))
    low = 0  # the largest number that did not pass
    for step, count in enumerate(counts):
        tried = _with_float(int8, kept, ranked[:count])
        failures = trial.count_failures(tried.graph)
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
        fewer = _with_float(int8, kept, ranked[:middle])
        if trial.count_failures(fewer.graph):
            low = middle
        else:
            best, high = fewer, middle
    return best


def _with_float(int8: Int8Graph, kept: Sequence[str], names: Sequence[str]) -> QuantizedGraph:
    layers = (*kept, *names)
    return QuantizedGraph(int8.build(layers), layers)
