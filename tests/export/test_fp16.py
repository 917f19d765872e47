import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from blemish.export.fp16 import to_half
from blemish.testing import raises

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def detector(branch=False):
    """Two convolutions, then boxes from anchor points too large to be distinguished in half precision."""
    generator = np.random.default_rng(0)
    arrays = {
        "w1": generator.normal(size=(16, 3, 3, 3)).astype(np.float32) / 5,
        "w2": generator.normal(size=(32, 16, 3, 3)).astype(np.float32) / 12,
        "b2": generator.normal(size=32).astype(np.float32),
        "points": (np.arange(32 * 36, dtype=np.float32).reshape(1, 32, 6, 6) % 80 + 0.5),
        "stride": np.array(8.0, np.float32),
        "far": np.array(1003.0, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
    ]
    last = helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1])
    if branch:  # the second convolution inside an If, its weights outside
        arrays["yes"] = np.array(True)
        inner = helper.make_node("Conv", ["r1", "w2", "b2"], ["inner"], pads=[1, 1, 1, 1])
        other = helper.make_node("Concat", ["r1", "r1"], ["inner2"], axis=1)
        shape = ["batch", 32, 6, 6]
        bodies = [
            helper.make_graph([n], name, [], [helper.make_tensor_value_info(o, SINGLE, shape)])
            for n, name, o in ((inner, "then", "inner"), (other, "else", "inner2"))
        ]
        last = helper.make_node("If", ["yes"], ["c2"], then_branch=bodies[0], else_branch=bodies[1])
    nodes += [
        last,
        helper.make_node("Add", ["c2", "points"], ["centre"]),
        helper.make_node("Mul", ["centre", "stride"], ["pixels"]),
        helper.make_node("Add", ["pixels", "far"], ["boxes"]),
        helper.make_node("Sigmoid", ["c2"], ["scores"]),
    ]
    shape = ["batch", 32, 6, 6]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", SINGLE, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info(n, SINGLE, shape) for n in ("boxes", "scores", "c2")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def run(graph, image):
    return dict(
        zip(
            ("boxes", "scores", "c2"),
            onnxruntime.InferenceSession(graph).run(None, {"image": image}),
            strict=True,
        )
    )


@pytest.fixture(autouse=True)
def no_limit(monkeypatch):
    monkeypatch.setattr("blemish.export.fp16.MAX_SIZE_SHARE", 1.0)  # tiny graphs are mostly names


@pytest.mark.parametrize("branch", [False, True])
def test_to_half_converts_layers_but_not_coordinates(branch):
    graph = detector(branch=branch)
    half = to_half(graph)
    image = np.random.default_rng(1).normal(size=(3, 3, 6, 6)).astype(np.float32)
    before, after = run(graph, image), run(half, image)
    for name in before:
        assert after[name].dtype == np.float32
        assert 0 < np.abs(before[name] - after[name]).max() < 0.1, name
    # half a float steps by .5 up here: the boxes must be finer than that
    steps = np.abs(after["boxes"] * 2 - np.round(after["boxes"] * 2))
    assert steps.max() > 0.05
    kinds = {t.name: t.data_type for t in onnx.load_from_string(half).graph.initializer}
    assert all(kind == HALF for name, kind in kinds.items() if name.startswith(("w1", "w2", "points")))
    assert kinds["far"] == SINGLE


def test_to_half_keeps_exact_constants():
    half = onnx.load_from_string(to_half(detector()))
    points = next(t for t in half.graph.initializer if t.name.startswith("points"))
    assert points.data_type == HALF
    cast = next(n for n in half.graph.node if n.input[0] == points.name)
    assert cast.op_type == "Cast" and cast.attribute[0].i == SINGLE


def test_to_half_keeps_nodes_in_topological_order():
    for branch in (False, True):
        half = onnx.load_from_string(to_half(detector(branch=branch)))
        onnx.checker.check_model(half, full_check=True)


def test_to_half_refuses_a_graph_that_hardly_shrinks(monkeypatch):
    monkeypatch.setattr("blemish.export.fp16.MAX_SIZE_SHARE", 0.505)
    with raises("export-refused.not-smaller", "float16"):
        to_half(detector())
    with raises("export-refused.no-fp16", "float16"):
        to_half(to_half.__doc__.encode())


def test_to_half_clips_large_weights():
    model = onnx.load_from_string(detector())
    weight = next(t for t in model.graph.initializer if t.name == "w1")
    array = numpy_helper.to_array(weight).copy()
    array[0, 0, 0, 0] = 1e6
    weight.CopyFrom(numpy_helper.from_array(array, "w1"))
    half = onnx.load_from_string(to_half(model.SerializeToString()))
    kept = next(numpy_helper.to_array(t) for t in half.graph.initializer if t.name.startswith("w1"))
    assert kept.max() == np.float16(65504)
