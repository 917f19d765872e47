"""read_model_file refuses damaged and hostile files by a code, in linear time."""

import json
import time
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from blemish.errors import BadModelFile
from blemish.model_file import (
    Contract,
    DecoderSpec,
    InputSpec,
    LabelSpec,
    OutputSpec,
    read_model_file,
    write_model_file,
)
from blemish.model_file.protobuf import encode_entry
from blemish.structures import Labels, Task
from blemish.testing import raises

CONTRACT = Contract(
    architecture="tiny",
    task=Task.MULTILABEL,
    labels=(LabelSpec(name="dent", display_name="Dent"), LabelSpec(name="scratch", display_name="Scratch")),
    inputs=(InputSpec(size_hw=(8, 9)),),
    outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
    decoder=DecoderSpec(name="scores"),
)
GRAPH = b"\x08\x08\x3a\x00"  # the smallest ONNX file


def contract_file(path, change=None, text=None):
    """Write a model file whose contract is changed after it was validated."""
    raw = json.loads(CONTRACT.model_dump_json())
    if change is not None:
        change(raw)
    text = json.dumps(raw) if text is None else text
    path.write_bytes(GRAPH + encode_entry("blemish", text))
    return path


def timed_error(path):
    started = time.process_time()
    with pytest.raises(BadModelFile) as raised:
        read_model_file(path)
    return raised.value, time.process_time() - started


def setting(**values):
    return lambda raw: raw["decoder"].update(settings=values)


def put(place, value):
    def change(raw):
        *above, last = place
        for key in above:
            raw = raw[key]
        raw[last] = value

    return change


def nested(levels):
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("not-finite", put(["training"], {"loss": [float("nan")]})),
        ("not-finite", put(["temperature"], float("inf"))),
        ("not-finite", put(["metrics"], {"val": -float("inf")})),
        ("control-character", put(["labels", 0, "name"], "dent\x1b[2J")),
        ("control-character", put(["labels", 1, "display_name"], "Scratch\n")),
        ("control-character", put(["outputs", 0, "name"], "log\x00its")),
        ("control-character", put(["inputs", 0, "name"], "image\u202e")),
        ("lone-surrogate", put(["labels", 0, "name"], "dent\ud800")),
        ("lone-surrogate", put(["recipe"], {"a\udfff": 1})),
        ("decoder-setting", setting(min_score=1.5)),
        ("decoder-setting", setting(nms_iou=-0.1)),
        ("decoder-setting", setting(mask_threshold="half")),
        ("decoder-setting", setting(max_detections=0)),
        ("decoder-setting", setting(max_detections=10**12)),
        ("decoder-setting", setting(max_candidates=2.5)),
        ("decoder-setting", setting(normalized="no")),
        ("decoder-setting", setting(box_format="xyz")),
        ("decoder-setting", setting(label_offset=10**9)),
        ("decoder-setting", setting(coord_max=0)),
        ("input-size", put(["inputs", 0, "size_hw"], [32768, 32768])),
        ("too-many-inputs-or-outputs", lambda r: r.update(
            outputs=[{"name": f"o{i}", "role": "scores"} for i in range(65)])),
        ("nesting", put(["recipe"], {"a": nested(101)})),
        ("nesting", put(["recipe"], {"a": nested(500)})),
        ("too-many-labels", lambda r: r.update(
            labels=[{"name": f"l{i}", "display_name": "x"} for i in range(10_001)])),
    ],
)  # fmt: skip
def test_contract_is_refused(tmp_path, reason, change):
    error, seconds = timed_error(contract_file(tmp_path / "m.onnx", change))
    assert error.code == f"bad-model-file.{reason}"
    assert len(str(error)) < 1500
    assert seconds < 0.5  # of processor time, which other programs do not change; 0.1 s were measured


def test_contract_within_the_limits_is_read(tmp_path):
    def change(raw):
        raw["recipe"] = {"text": "two\nlines", "deep": nested(90)}
        raw["labels"] = [{"name": f"l{i}", "display_name": "x"} for i in range(10_000)]
        raw["decoder"]["settings"] = {"min_score": 0.05, "max_detections": 300, "other": [1, None]}

    assert len(read_model_file(contract_file(tmp_path / "m.onnx", change)).contract.labels) == 10_000


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000])
def test_deep_json_is_refused(tmp_path, text):
    error, _ = timed_error(contract_file(tmp_path / "m.onnx", text=text))
    assert error.code == "bad-model-file.nesting"


def test_large_metadata_are_refused(tmp_path, monkeypatch):
    error, _ = timed_error(contract_file(tmp_path / "m.onnx", text=" " * 16_000_001))
    assert error.code == "bad-model-file.metadata-size"
    monkeypatch.setattr("blemish.model_file.read_write.MAX_METADATA_BYTES", 1000)
    error, _ = timed_error(contract_file(tmp_path / "m.onnx", put(["recipe"], {"a": "b" * 2000})))
    assert error.code == "bad-model-file.metadata-size"


def test_a_duplicate_among_many_labels_is_found_in_linear_time(tmp_path):
    names = [f"label {i}" for i in range(60_000)]
    started = time.process_time()
    with raises("bad-input.duplicate-label", "'label 59999'"):
        Labels((*names, "label 59999"))
    assert time.process_time() - started < 1
    rows = [{"name": n, "display_name": n} for n in (*names, names[-1])]
    error, seconds = timed_error(contract_file(tmp_path / "m.onnx", put(["labels"], rows)))
    assert error.code == "bad-model-file.too-many-labels"
    assert seconds < 2
    rows = [*rows[:9_999], rows[9_998]]
    error, seconds = timed_error(contract_file(tmp_path / "m.onnx", put(["labels"], rows)))
    assert error.code == "bad-model-file.damaged-contract" and "appears twice" in str(error)
    assert seconds < 2


def external(tensor):
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    return tensor


def graph(*, place, make_external):
    """Return a model with a tensor at some place, in another file if `make_external`."""
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "weight")
    if make_external:
        external(tensor)
    nodes, initializers, sparse = [], [], []
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])
    if place == "initializer":
        initializers = [tensor]
    elif place == "sparse":
        sparse = [helper.make_sparse_tensor(tensor, numpy_helper.from_array(np.array([0, 1])), [4])]
    elif place == "attribute":
        nodes = [helper.make_node("Constant", [], ["logits"], value=tensor)]
    elif place == "subgraph":
        inner = helper.make_graph([helper.make_node("Constant", [], ["x"], value=tensor)], "inner", [], [])
        nodes = [helper.make_node("If", ["c"], ["logits"], then_branch=inner, else_branch=inner)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [], [output], initializers, sparse_initializer=sparse)
    )
    if place == "function":
        node = helper.make_node("Constant", [], ["x"], value=tensor)
        model.functions.append(helper.make_function("d", "f", [], ["x"], [node], model.opset_import))
    return model.SerializeToString()


@pytest.mark.parametrize("place", ["initializer", "sparse", "attribute", "subgraph", "function"])
def test_weights_in_another_file_are_refused(tmp_path, place):
    write_model_file(tmp_path / "good.onnx", graph(place=place, make_external=False), CONTRACT)
    path = tmp_path / "m.onnx"
    path.write_bytes(
        graph(place=place, make_external=True) + encode_entry("blemish", CONTRACT.model_dump_json())
    )
    with raises("bad-model-file.external-data", "in another file"):
        read_model_file(path)


def test_a_location_without_a_reference_is_refused(tmp_path):
    model = onnx.load_from_string(graph(place="initializer", make_external=False))
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString() + encode_entry("blemish", CONTRACT.model_dump_json()))
    with raises("bad-model-file.external-data"):
        read_model_file(path)


@pytest.mark.parametrize(
    "info",
    [
        helper.make_tensor_value_info("logits", TensorProto.INT64, [1, 2]),
        helper.make_tensor_value_info("logits", TensorProto.STRING, [1, 2]),
        helper.make_tensor_value_info("logits", TensorProto.BOOL, [1, 2]),
        helper.make_tensor_sequence_value_info("logits", TensorProto.FLOAT, [1, 2]),
    ],
)
def test_outputs_that_are_no_scores_are_refused(tmp_path, info):
    model = helper.make_model(helper.make_graph([], "g", [], [info]))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString() + encode_entry("blemish", CONTRACT.model_dump_json()))
    error, _ = timed_error(path)
    assert error.code == "bad-model-file.output-type"


def test_integer_labels_of_detectors_are_read(tmp_path):
    contract = CONTRACT.model_copy(update={"outputs": (OutputSpec(name="labels", role="labels"),)})
    info = helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 2])
    model = helper.make_model(helper.make_graph([], "g", [], [info]))
    assert write_model_file(tmp_path / "m.onnx", model.SerializeToString(), contract).contract == contract


def test_nothing_is_written_that_could_not_be_read(tmp_path):
    contract = CONTRACT.model_copy(update={"decoder": DecoderSpec(name="scores", settings={"min_score": 2})})
    with raises("bad-model-file.decoder-setting"):
        write_model_file(tmp_path / "m.onnx", GRAPH, contract)
    assert not (tmp_path / "m.onnx").exists()


WHOLE = graph(place="subgraph", make_external=False) + encode_entry("blemish", CONTRACT.model_dump_json())


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4)), min_size=1, max_size=4))
@example([(0, b"")])
def test_changed_bytes_give_one_error_or_a_contract(tmp_path, changes):
    data = bytearray(WHOLE)
    for position, replacement in changes:
        data[position : position + len(replacement)] = replacement
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    try:
        assert isinstance(read_model_file(path).contract, Contract)
    except BadModelFile as error:
        assert error.code.startswith("bad-model-file.") and str(path) in str(error)
