from collections.abc import Callable

import pytest

from blemish.export.accuracy_control import control_accuracy, float_counts
from blemish.export.int8 import Int8Graph
from blemish.export.int8_layers import Layer

NAMES = [f"layer{i}" for i in range(20)]


class Int8Stub(Int8Graph):
    """A graph whose bytes are the names of its float layers; the first layers are the most sensitive."""

    def __init__(self):
        self.layers = tuple(Layer(name, (name,), 0.04, is_head=False) for name in NAMES)

    def use_ranges(self, name):
        assert name in ("mean", "extremes")

    def kept_layers(self):
        return ("head",)

    def build(self, float_layers=()):
        return ",".join(float_layers).encode()


class TrialStub:
    """A trial in which the error of the predictions is the number of the layer that stays float."""

    def __init__(self, count_failures: Callable[[bytes], int]) -> None:
        self.count_failures = count_failures

    def typical_error(self, graph: bytes) -> float:
        return self.hard_error(graph)

    def hard_error(self, graph: bytes) -> float:
        return int(graph.decode().rpartition("layer")[2]) if b"layer" in graph else 0


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 5, 6, 7, 8])
def test_control_accuracy_returns_the_fewest_layers_that_pass(needed):
    tried, steps = [], []

    def count_failures(graph):
        tried.append(graph.count(b"layer"))
        return max(0, needed - tried[-1])

    result = control_accuracy(Int8Stub(), TrialStub(count_failures), lambda *step: steps.append(step))
    assert result.float_layers == ("head", *NAMES[:needed])
    assert result.graph == Int8Stub().build(result.float_layers)
    assert len(tried) <= 2 + 2 * len(float_counts(20))
    assert bool(steps) == bool(needed)
    if needed:
        assert ("ranking layers", 20, 20) in steps


def test_control_accuracy_ends_with_the_fewest_failures():
    """More layers in float32 are no better: the decisions are on the line."""
    failures = {0: 5, 1: 4, 2: 2, 4: 2, 8: 3}
    trial = TrialStub(lambda graph: failures[graph.count(b"layer")])
    result = control_accuracy(Int8Stub(), trial, lambda *_: None)
    assert result.float_layers == ("head", *NAMES[:2])
