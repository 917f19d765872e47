"""Second moments of layers' inputs, and rounding that uses them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from tests.inference import tiny_models

from blemish.export.int8_moments import InputMoments
from blemish.export.int8_weights import WEIGHT_LEVELS, round_rows, round_with_feedback


def conv_graph(weight, **attributes):
    nodes = [helper.make_node("Conv", ["image", "w"], ["out"], name="conv", **attributes)]
    return onnx.load_from_string(
        tiny_models.serialised(
            nodes, {"image": (None, 4, 9, 7)}, {"out": (None, None, None, None)}, {"w": weight}
        )
    )


@pytest.mark.parametrize("strides", [[1, 1], [2, 1]])
def test_moments_of_a_convolution_predict_the_power_of_its_outputs(strides):
    """Few outputs, so that all are sampled: the mean square of an output channel is w M w."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 4, 3, 2)).astype(np.float32)
    model = conv_graph(weight, pads=[1, 0, 1, 1], strides=strides)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    moments = InputMoments(model.graph, ["conv"])
    assert moments.tensors == ("image",)
    images = [rng.normal(1, 1, (1, 4, 9, 7)).astype(np.float32) for _ in range(3)]
    for image in images:
        moments.add({"image": image})
    outputs = np.concatenate([session.run(None, {"image": image})[0] for image in images])
    rows = weight.reshape(5, -1)
    expected = np.einsum("ni,ij,nj->n", rows, moments.moments()["conv"], rows)
    np.testing.assert_allclose(expected, (outputs**2).mean((0, 2, 3)), rtol=1e-4)


def test_moments_leave_out_layers_with_few_samples_and_other_convolutions():
    weight = np.ones((4, 4, 3, 2), np.float32)
    few = InputMoments(conv_graph(weight, strides=[9, 9], pads=[1, 0, 1, 1]).graph, ["conv"])
    few.add({"image": np.ones((1, 4, 9, 7), np.float32)})
    assert few.tensors == ("image",) and few.moments() == {}
    dilated = conv_graph(weight, dilations=[2, 2]).graph
    assert not InputMoments(dilated, ["conv"]).tensors
    assert not InputMoments(conv_graph(np.ones((4, 1, 3, 2), np.float32), group=4).graph, ["conv"]).tensors


def test_moments_of_linear_layers_are_of_their_rows():
    for transposed, shape in ((0, (3, 6)), (1, (6, 3))):
        nodes = [helper.make_node("Gemm", ["x", "w"], ["out"], name="linear", transB=transposed)]
        weight = np.ones(shape, np.float32)
        graph = onnx.load_from_string(
            tiny_models.serialised(nodes, {"x": (None, 3)}, {"out": (None, 6)}, {"w": weight})
        ).graph
        moments = InputMoments(graph, ["linear"])
        rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
        moments.add({"x": rows})
        np.testing.assert_allclose(moments.moments()["linear"], rows.T @ rows / 7, rtol=1e-5)


def test_round_with_feedback_has_less_error_on_inputs_that_vary_together():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 90)) + 0.1 * rng.normal(size=(2000, 90))
    rows = np.concatenate([rng.normal(size=(8, 90)), np.zeros((1, 90))])
    moments = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    power = np.diag(moments)[None].astype(np.float64)
    plain, fed = round_rows(rows, power), round_with_feedback(rows, power, moments)
    errors = [(((rows - rounded) @ inputs.T) ** 2).mean() for rounded in (plain, fed)]
    assert errors[1] < 0.5 * errors[0]
    assert not fed[-1].any()
    for row in fed[:-1]:  # the quantizer takes the scale from the largest, and finds whole levels
        levels = row / np.abs(row).max() * WEIGHT_LEVELS
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-6)
