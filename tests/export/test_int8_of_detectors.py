"""INT8 of a drawn detector with SiLU: certified on objects, refused by name of the image; without torch."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.export.drawn_detector import LABELS, detector_graph, drawn_objects, write_detector

from blemish.data import open_dataset
from blemish.evaluation import evaluate
from blemish.export.int8 import MIN_SILU_INPUT, Int8Graph
from blemish.export.int8_layers import find_layers, silu_inputs
from blemish.export.reexport import reexport
from blemish.inference import load
from blemish.inference.backend import BACKENDS
from blemish.testing import raises

pytestmark = pytest.mark.usefixtures("tiny_graphs_are_mostly_names")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drawn_objects(tmp_path_factory.mktemp("data") / "objects")


def test_reexport_int8_of_a_detector_is_certified_on_objects(tmp_path, data):
    source = write_detector(tmp_path / "model.onnx")
    made = reexport(source.path, precision="int8", data=data)
    proof = made.contract.certificate
    assert proof.passed and proof.precision == "int8" and proof.images == 12 and proof.metric == "ap"
    assert proof.decisions_changed == 0 and 0 < proof.max_difference < 0.2
    assert made.contract.training["quantization"] == {
        "calibration_images": 12,
        "layers": 4,  # the last one has too few weights
        "float_layers": 2,  # the stem and the head
        "weight_bits": 7,
    }
    report = evaluate(made.path, open_dataset(data), intervals=False)
    assert report.value("ap") == pytest.approx(proof.metric_after) and report.value("ap50") > 0.9
    predictor = load(made.path, backend="certified")
    assert predictor.backend.precision == "int8" and predictor.warnings == ()


def test_reexport_int8_of_a_detector_names_images_with_lost_objects(tmp_path, data, monkeypatch):
    """A graph that finds nothing on the right half of the image."""
    build = Int8Graph.build

    def blind(self, float_layers=()):
        model = onnx.load_from_string(build(self, float_layers))
        for tensor in model.graph.initializer:
            if tensor.name == "boxes":
                values = numpy_helper.to_array(tensor).copy()
                values[0, 0, values[0, 0] > 16] = 1000
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return model.SerializeToString()

    monkeypatch.setattr(Int8Graph, "build", blind)
    source = write_detector(tmp_path / "model.onnx")
    with raises("export-refused.not-certified", tmp_path / "model-int8.onnx", ".png", "--force"):
        reexport(source.path, precision="int8", data=data, max_drop=1)
    allowed = reexport(source.path, precision="int8", data=data, max_drop=1, max_changed=1)
    assert allowed.contract.certificate.passed and allowed.contract.certificate.decisions_changed >= 6
    forced = reexport(source.path, precision="int8", data=data, max_changed=1, force=True)
    assert not forced.contract.certificate.passed
    assert forced.contract.certificate.metric_after < forced.contract.certificate.metric_before


def test_reexport_int8_for_openvino_rounds_only_the_inputs_of_layers(tmp_path, data, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.delenv("BLEMISH_CERTIFY_BACKENDS", raising=False)
    made = reexport(
        write_detector(tmp_path / "model.onnx").path, precision="int8", data=data, backend="openvino"
    )
    proof, (other,) = made.contract.certificate, made.contract.other_certificates
    assert proof.passed and proof.backend.startswith("openvino") and proof.precision == "int8"
    assert other.backend.startswith("onnxruntime") and other.precision == "int8"
    graph = onnx.load(made.path).graph
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert rounded == {"a1", "a2"}  # what the layers read that are neither stem nor head
    assert load(made.path, backend="certified").backend.name.startswith("openvino")


def test_reexport_int8_refuses_backends_that_it_cannot_make_files_for(tmp_path, data, monkeypatch):
    source = write_detector(tmp_path / "model.onnx").path
    with raises("unknown-name.backend", "openvina"):
        reexport(source, precision="int8", data=data, backend="openvina")
    with raises("bad-input.int8-backend", "openvino", "fp16"):
        reexport(source, precision="fp16", data=data, backend="openvino")
    monkeypatch.delattr(type(BACKENDS.get("openvino")), "open_graph")
    with raises("bad-input.int8-backend", "openvino", "onnxruntime"):
        reexport(source, precision="int8", data=data, backend="openvino")


def feeds(count):
    rng = np.random.default_rng(0)
    return [{"image": rng.normal(0, 3, (1, 3, 32, 32)).astype(np.float32)} for _ in range(count)]


def test_silu_inputs_have_no_range_for_values_near_zero():
    int8 = Int8Graph(detector_graph(), feeds(4))
    graph = onnx.load_from_string(int8.build()).graph
    assert silu_inputs(onnx.load_from_string(detector_graph()).graph) == ("c1", "c2", "c3")
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for name in ("c1", "c2", "c3"):
        low = -float(constants[f"{name}_zero_point"]) * float(constants[f"{name}_scale"])
        assert low >= 1.02 * MIN_SILU_INPUT


def test_silu_inputs_exclude_outputs_and_tensors_with_other_readers():
    model = onnx.load_from_string(detector_graph())
    for node in model.graph.node:
        if node.output[0] == "c3":
            node.input[0] = "c2"  # instead of its SiLU
    assert silu_inputs(model.graph) == ("c1", "c3")
    model.graph.output.append(onnx.ValueInfoProto(name="c1"))
    assert silu_inputs(model.graph) == ("c3",)


def test_find_layers_marks_the_stem_and_the_head():
    model = onnx.load_from_string(detector_graph())
    for i, node in enumerate(model.graph.node):
        node.name = str(i)
    layers = find_layers(model.graph)
    assert [layer.is_stem for layer in layers] == [True, False, False, False]
    assert [layer.is_head for layer in layers] == [False, False, False, True]
    assert len(LABELS) == 2
