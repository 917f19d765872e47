"""Choosing, registering and loading backends."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blemish.errors import NetworkTooSlow
from blemish.inference import BACKENDS, Predictor, Tiling, backend, load
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import InputSpec, ParityCertificate, write_model_file
from blemish.structures import Task
from blemish.testing import raises


def scene(size_hw=(40, 60), seed=0):
    """Return an image that is not symmetric, so that rotating it changes the prediction."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = [128 + 100 * np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.01, 0.2, (3, 3))]
    return np.stack(waves, 2).astype(np.uint8)


def test_registered_backend_reaches_load(model):
    class Builder:
        def is_installed(self):
            return True

        def open(self, model_file, *, device, threads, spinning):
            self.options = (device, threads, spinning)
            return OnnxRuntimeBackend(model_file.path)

    builder = Builder()
    BACKENDS.register("test-backend", builder, module=__name__)
    try:
        predictor = load(model.path, backend="test-backend", device="tpu", threads=3, spinning=True)
        assert builder.options == ("tpu", 3, True)
        assert len(predictor.predict(scene()).label_scores) == 3
        assert "test-backend" in backend.backend_names()
    finally:
        BACKENDS.unregister("test-backend")


def certified(tiny, path, **fields):
    defaults = {"passed": True, "images": 3, "decisions_changed": 0, "max_difference": 0.0}
    return tiny.write_scores_model(path, certificate=ParityCertificate(**{**defaults, **fields}))


def test_load_auto_uses_certified_backend(tmp_path, tiny):
    pytest.importorskip("openvino")
    plain = certified(tiny, tmp_path / "a.onnx", backend="onnxruntime 1.31.1 CPUExecutionProvider")
    other = certified(tiny, tmp_path / "b.onnx", backend="openvino 2026.4.1 CPU")
    bf16 = certified(tiny, tmp_path / "c.onnx", backend="openvino 2026.4.1 CPU", precision="bf16")
    failed = certified(tiny, tmp_path / "d.onnx", backend="openvino 2026.4.1 CPU", passed=False)
    assert load(plain.path).backend.name.startswith("onnxruntime")
    assert load(other.path).backend.name.startswith("openvino")
    assert load(other.path, backend="onnxruntime").backend.name.startswith("onnxruntime")
    assert load(other.path).backend.precision == "fp32"
    half = certified(tiny, tmp_path / "e.onnx", backend="onnxruntime 1.31.1 CPU", precision="fp16")
    assert load(half.path).backend.precision == "fp16"
    assert load(bf16.path).backend.precision == "bf16"
    assert load(failed.path).backend.name.startswith("onnxruntime")
    assert load(plain.path, backend="openvino").backend.precision == "fp32"


def test_predictor_warnings(tmp_path, tiny, model):
    assert load(model.path).warnings == ()
    failed = certified(tiny, tmp_path / "d.onnx", passed=False, reasons=("2 verdicts changed",))
    assert "did not pass (2 verdicts changed)" in load(failed.path).warnings[0]
    changed = certified(tiny, tmp_path / "e.onnx", graph_digest="00" * 32)
    assert "changed after it was certified" in load(changed.path).warnings[0]


def test_load_refuses_unknown_backends_and_devices(model, monkeypatch):
    with raises("unknown-name.backend", "'onnx-runtime'", "'onnxruntime'"):
        load(model.path, backend="onnx-runtime")
    with raises("bad-input.unknown-device", "'gpu'"):
        load(model.path, device="gpu")
    with raises("bad-input.unknown-device", "'cuda:x'"):
        load(model.path, device="cuda:x")
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with raises("missing-extra", "openvino"):
        load(model.path, backend="openvino")


def test_load_refuses_cuda_without_cuda(model):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a CUDA device")
    with raises("bad-input.device", "'cuda'", "onnxruntime-gpu"):
        load(model.path, device="cuda")


def test_load_refuses_damaged_graph_and_contract_of_another_graph(tmp_path, tiny, model):
    broken = write_model_file(tmp_path / "broken.onnx", b"\x08\x08\x3a\x02\x0a\x00", model.contract)
    with raises("bad-model-file.cannot-load", "broken.onnx"):
        load(broken.path)
    other = tiny.write_scores_model(
        tmp_path / "other.onnx",
        labels=("fine", "dented", "scratched"),
        inputs=(InputSpec(name="picture", size_hw=(8, 8)),),
    )
    with raises("bad-model-file.cannot-run", "other.onnx"):
        load(other.path).predict(scene())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_available_cores_respects_container_quota(tmp_path, files, expected):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert backend._container_quota(tmp_path) == expected
    assert backend.available_cores() >= 1


def test_onnxruntime_errors_keep_the_reason_at_their_end(tmp_path, tiny, model):
    """The message of a node with a long name has its reason behind 450 characters."""
    import onnx

    graph = onnx.load_from_string(tiny.scores_graph(size_hw=(8, 9)))
    graph.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"  # the fault shows at run time
    graph.graph.node[1].name = "layer/" * 150
    path = write_model_file(tmp_path / "long.onnx", graph.SerializeToString(), model.contract).path
    with raises("bad-model-file.cannot-run") as caught:
        load(path).predict(scene())
    text = caught.message
    assert len(text) < 900 and "…" in text
    assert "\n" not in text and "ONNXRuntimeError" not in text
    assert "K: 192" in text  # the last words of the message


def endless_graph(tiny):
    """Return a graph of logits (b, 2) with a loop of 2^62 steps, each of which adds 0."""
    from onnx import TensorProto, helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["sum", "zero"], ["next"])],
        "step",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Loop", ["steps", "always", "means"], ["sums"], body=body),
        helper.make_node("Slice", ["sums", "first", "last", "axis"], ["logits"]),
    ]
    constants = {
        "steps": np.array(2**62, np.int64),
        "always": np.array(True),
        "zero": np.zeros(1, np.float32),
        "first": np.array([0]),
        "last": np.array([2]),
        "axis": np.array([1]),
    }
    return tiny.serialised(nodes, {"image": (None, 3, 8, 8)}, {"logits": (None, 2)}, constants)


@pytest.mark.parametrize("size", [1, 3])
def test_network_that_never_ends_is_stopped_and_ends_the_stream(tmp_path, tiny, size):
    made = write_model_file(tmp_path / "endless.onnx", endless_graph(tiny), tiny.contract())
    predictor = Predictor(OnnxRuntimeBackend(made.path, device="cpu", max_seconds=0.2), made)
    results = predictor.stream([scene()] * 4, size)
    with raises("network-too-slow", "endless.onnx", "0.2 seconds"):
        next(results)
    assert list(results) == []  # the other images would wait as long
    with raises("network-too-slow"):
        predictor.predict(scene())  # the limit holds for each run


def test_time_limit_ends_the_stream_of_tiles(tmp_path, tiny):
    box = np.array([[1.0, 1.0, 5.0, 5.0]], np.float32)
    contract = tiny.contract(Task.DETECTION)
    made = write_model_file(tmp_path / "m.onnx", tiny.fixed_graph(boxes=box), contract)

    class Slow(OnnxRuntimeBackend):
        def run(self, feeds):
            raise NetworkTooSlow("m.onnx: too slow")

    results = Predictor(Slow(made.path, device="cpu"), made).stream([scene()] * 2, tiling=Tiling(16, 0.2))
    with raises("network-too-slow"):
        next(results)
    assert list(results) == []


def test_time_limit_stops_only_runs_that_are_too_late(tmp_path, tiny, model):
    """Runs of one limit share a thread: one that is in time keeps its result beside one that is not."""
    made = write_model_file(tmp_path / "endless.onnx", endless_graph(tiny), tiny.contract())
    endless = Predictor(OnnxRuntimeBackend(made.path, device="cpu", max_seconds=0.3), made)
    quick = Predictor(OnnxRuntimeBackend(model.path, device="cpu", max_seconds=0.3), model)
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(endless.predict, scene())
        for _ in range(50):
            assert len(quick.predict(scene()).label_scores) == 3
        with raises("network-too-slow"):
            stopped.result()
    assert len(quick.predict(scene()).label_scores) == 3
