"""Quantization of drawn networks: what is computed in 8 bits, and how near it stays."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from tests.export.drawn_cnn import SIDE, cnn_graph
from tests.inference import tiny_models

from blemish.export.int8 import Int8Graph
from blemish.export.int8_weights import WEIGHT_LEVELS, round_rows
from blemish.testing import raises


def noise(count, seed=0):
    rng = np.random.default_rng(seed)
    return [{"image": rng.normal(0.5, 1, (1, 3, SIDE, SIDE)).astype(np.float32)} for _ in range(count)]


def run(graph, feeds):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, one)[0] for one in feeds])


@pytest.fixture(scope="module")
def int8():
    return Int8Graph(cnn_graph(), noise(16))


def nodes_of(graph, kind):
    return [node for node in onnx.load_from_string(graph).graph.node if node.op_type == kind]


@pytest.mark.parametrize("opset", [17, 20])
def test_build_computes_layers_in_8_bits(opset):
    source = cnn_graph(opset=opset)
    graph = Int8Graph(source, noise(16)).build()
    feeds = noise(20, seed=1)
    before, after = run(source, feeds), run(graph, feeds)
    assert 0 < np.abs(before - after).max() < 0.05 * np.ptp(before)
    arrays = [numpy_helper.to_array(t) for t in onnx.load_from_string(graph).graph.initializer]
    weights = [array for array in arrays if array.dtype == np.int8 and array.ndim > 1]
    assert len(weights) == 4 and all(np.abs(array.astype(int)).max() == WEIGHT_LEVELS for array in weights)
    assert any(array.dtype == np.int32 for array in arrays)  # biases
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [x.type for x in (*session.get_inputs(), *session.get_outputs())] == ["tensor(float)"] * 2
    assert session.run(None, {"image": np.zeros((5, 3, SIDE, SIDE), np.float32)})[0].shape == (5, 2)


def test_build_keeps_pooled_features_and_float_layers_exact(int8):
    """Only the last linear layers are heads; arithmetic around the pooling reads float32."""
    names = [layer.name for layer in int8.layers]
    assert len(names) == 4 and int8.layers[-1].is_head  # w5 has too few weights to be a layer
    assert "GlobalAveragePool_7" not in {node for layer in int8.layers for node in layer.nodes}
    assert sum(layer.weight_share for layer in int8.layers) == pytest.approx(1)
    everything_float = int8.build(names)
    assert not nodes_of(everything_float, "QuantizeLinear")
    feeds = noise(3)
    np.testing.assert_allclose(run(everything_float, feeds), run(cnn_graph(), feeds), rtol=1e-5, atol=1e-6)
    first_float = int8.build([names[0]])
    conv = nodes_of(first_float, "Conv")[0]
    assert conv.input[0] == "image"  # not its rounded copy
    assert len(nodes_of(first_float, "QuantizeLinear")) < len(nodes_of(int8.build(), "QuantizeLinear"))


def test_choose_ranges_takes_those_with_less_error():
    """One image of sixteen is ten times as bright: the mean of the extremes would clip it."""
    images = [*noise(15), {"image": noise(1, 9)[0]["image"] * 10}]
    int8 = Int8Graph(cnn_graph(), images)
    before = run(cnn_graph(), images)
    errors = {}
    for name in ("mean", "extremes"):
        int8.use_ranges(name)
        errors[name] = np.abs(run(int8.build(), images) - before).mean()
    assert errors["extremes"] < errors["mean"]


def test_build_has_less_error_with_rounded_weights(int8, monkeypatch):
    """Scales and biases that fit the activations, against the quantizer's own."""
    feeds = noise(30, seed=3)
    before = run(cnn_graph(), feeds)
    fitted = np.abs(run(int8.build(), feeds) - before).mean()
    monkeypatch.setattr(Int8Graph, "_write_rounded", lambda *_: None)
    assert fitted < np.abs(run(int8.build(), feeds) - before).mean()


def test_build_is_deterministic_and_anonymous(int8):
    assert int8.build() == int8.build()
    model = onnx.load_from_string(int8.build())
    assert not model.metadata_props and not model.producer_name
    assert not any(node.doc_string for node in model.graph.node)


def test_round_rows_gives_at_most_129_levels_and_less_error_than_the_largest_weight():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(5, 400)), np.zeros((1, 400))])
    rounded = round_rows(rows, np.ones((1, 400)))
    assert max(len(np.unique(row)) for row in rounded) <= 2 * WEIGHT_LEVELS + 1
    scale = np.abs(rows).max(1, keepdims=True) / WEIGHT_LEVELS
    plain = np.round(rows / np.maximum(scale, 1e-30)) * scale
    assert ((rounded - rows) ** 2).sum() <= ((plain - rows) ** 2).sum()
    assert not rounded[-1].any()


def test_int8_graph_refuses_a_graph_without_layers_and_damaged_ones():
    with raises("export-refused.no-int8", "convolution"):
        Int8Graph(tiny_models.fixed_graph(logits=np.zeros(2, np.float32)), [])
    with raises("export-refused.no-int8", "INT8"):
        Int8Graph(b"damaged", [])


def test_check_size_refuses_a_graph_that_is_hardly_smaller(int8):
    with raises("export-refused.not-smaller", "float32"):
        int8.check_size(cnn_graph())
