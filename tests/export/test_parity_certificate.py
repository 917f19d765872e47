import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import load_file

from blemish.evaluation.decision_differences import decision_error, difference
from blemish.export import export_trained, onnx_export
from blemish.export.detection_parity import count_unmatched, exceeds_rounding
from blemish.export.parity_certificate import certify
from blemish.geometry import mask_from_array
from blemish.imaging import open_image
from blemish.inference import load
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.model_file import (
    Contract,
    Fingerprints,
    LabelSpec,
    Licenses,
    graph_digest,
    read_graph,
    write_model_file,
)
from blemish.models import create
from blemish.models._torch_backend import TorchBackend
from blemish.preprocessing import prepare
from blemish.structures import GroundTruth, Labels, Prediction, Sample, Task
from blemish.task import TASKS
from blemish.testing import raises

LABELS = Labels(("F_Crushed", "R_Normal", "other"), ("Front Crushed", "Rear Normal", "Other"))


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    out = []
    for i in range(8):
        small = generator.integers(0, 256, (6, 5, 3), np.uint8)
        Image.fromarray(small).resize((40, 50)).save(folder / f"{i}.png")
        ground_truth = GroundTruth(task=Task.CLASSIFICATION, labels=LABELS, label_index=np.array([i % 3]))
        out.append(Sample(id=f"{i}.png", path=folder / f"{i}.png", ground_truth=ground_truth))
    return out


@pytest.fixture(scope="module")
def network(samples):
    """Return a network whose outputs and decisions differ between the images."""
    torch.manual_seed(3)
    network: Any = create("resnet18", task="classification", label_count=3, input_size=32).eval()
    batch = np.stack([prepare(open_image(s.path), network.inputs[0])[0] for s in samples])
    with torch.no_grad():
        network.head[-1].weight.mul_(50)
        network.head[-1].bias.sub_(network(torch.from_numpy(batch))[0].mean(0))
    return network


@pytest.fixture(scope="module")
def graph(network):
    return onnx_export.export_network(network)


def contract(network, **fields):
    return Contract(
        architecture="resnet18",
        task=network.task,
        labels=[
            LabelSpec(name=n, display_name=t) for n, t in zip(LABELS.names, LABELS.display_names, strict=True)
        ],
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
        **fields,
    )


def export(network, **arguments):
    return export_trained(network, explanation=False, **arguments)


def backends(network, path):
    return TorchBackend(network), OnnxRuntimeBackend(path)


def test_export_trained_writes_a_certified_file(network, samples, tmp_path, monkeypatch):
    monkeypatch.delenv("BLEMISH_CERTIFY_BACKENDS")
    words = np.arange(3, dtype=np.uint64)
    prints = Fingerprints(words, words, np.zeros((3, 4), np.uint64), np.zeros(3, np.uint8))
    expected = contract(
        network, temperature=1.5, licenses=Licenses(weights="mine", data="CC BY 4.0"), recipe={"name": "x"}
    )
    made = export(network, output=tmp_path, contract=expected, samples=samples, fingerprints=prints)
    assert made.path == tmp_path / "model.onnx"
    proof = made.contract.certificate
    assert proof.passed and proof.images == 8 and proof.decisions_changed == 0
    assert 0 < proof.max_difference < 1e-4
    assert proof.metric == "macro_f1" and proof.metric_before == proof.metric_after
    assert proof.graph_digest == made.graph_digest == graph_digest(read_graph(made.path))
    assert proof.backend.startswith("onnxruntime") and proof.cpu_capability and proof.precision == "fp32"
    for other in made.contract.other_certificates:  # of OpenVINO, if it is installed
        assert other.passed and other.graph_digest == made.graph_digest and other.backend != proof.backend
    predictor = load(made.path)
    assert predictor.labels.display_names == LABELS.display_names
    assert made.contract.abstention is not None and made.contract.abstention.images == 8
    written: dict[str, object] = {
        "certificate": None,
        "other_certificates": (),
        "metrics": {},
        "abstention": None,
    }
    assert made.contract.model_copy(update=written) == expected
    f1 = made.contract.metrics["val with intervals"]["macro_f1"]
    assert f1["value"] == proof.metric_after and f1["low"] <= f1["value"] <= f1["high"]
    assert made.fingerprints.pixel.tolist() == [0, 1, 2]
    assert len({predictor.predict(s.path).label_names for s in samples}) > 1
    state = load_file(tmp_path / "weights.safetensors")
    assert set(state) == set(network.state_dict())
    assert np.array_equal(state["head.1.weight"], network.state_dict()["head.1.weight"].numpy())
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("model.")) == [
        "weights.safetensors"
    ]


def test_export_trained_records_the_explanation_of_each_label(network, samples, tmp_path):
    made = export_trained(network, output=tmp_path, contract=contract(network), samples=samples)
    present = {LABELS.names[int(i)] for s in samples for i in s.ground_truth.label_index}
    assert set(made.contract.explanation) == present
    assert all(
        choice.images and choice.method != "eigen-cam" for choice in made.contract.explanation.values()
    )
    assert made.contract.certificate.passed and made.contract.certificate.graph_digest == made.graph_digest


def test_export_trained_refuses_a_corrupted_graph(network, samples, tmp_path, monkeypatch, graph):
    model = onnx.load_from_string(graph)
    weight = next(t for t in model.graph.initializer if "head" in t.name and len(t.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    monkeypatch.setattr("blemish.export.run_export.export_network", lambda n: model.SerializeToString())
    with raises("export-refused.not-certified", tmp_path / "model.onnx", "decisions changed", "--force"):
        export(network, output=tmp_path, contract=contract(network), samples=samples)
    assert not (tmp_path / "model.onnx").exists()
    assert (tmp_path / "weights.safetensors").exists()
    forced = export(network, output=tmp_path, contract=contract(network), samples=samples, force=True)
    assert not forced.contract.certificate.passed
    assert "decisions changed" in forced.contract.certificate.reasons[0]


def test_export_trained_refuses_a_constant_network(network, samples, tmp_path):
    silent: Any = create("resnet18", task="classification", label_count=3, input_size=32)
    with torch.no_grad():
        silent.head[-1].weight.zero_()
    with raises("export-refused.not-certified", "model.onnx", "near-constant"):
        export(silent, output=tmp_path, contract=contract(silent), samples=samples)


def test_export_trained_refuses_nan_outputs(network, samples, tmp_path):
    broken: Any = create("resnet18", task="classification", label_count=3, input_size=32)
    with torch.no_grad():
        broken.head[-1].bias.fill_(torch.nan)
    with raises("export-refused.not-certified", "model.onnx", "NaN"):
        export(broken, output=tmp_path, contract=contract(broken), samples=samples)


def test_export_trained_keeps_an_earlier_file_when_it_refuses(network, samples, tmp_path, monkeypatch):
    export(network, output=tmp_path, contract=contract(network), samples=samples)
    before = (tmp_path / "model.onnx").read_bytes()
    silent: Any = create("resnet18", task="classification", label_count=3, input_size=32)
    with torch.no_grad():
        silent.head[-1].weight.zero_()
    with raises("export-refused.not-certified", "near-constant"):
        export(silent, output=tmp_path, contract=contract(silent), samples=samples)
    assert (tmp_path / "model.onnx").read_bytes() == before


def test_an_exported_file_predicts_the_same_alone_and_in_a_batch(network, samples, tmp_path):
    made = export(network, output=tmp_path, contract=contract(network), samples=samples)
    predictor = load(made.path)
    together = [o.prediction.label_scores for o in predictor.stream([s.path for s in samples], 8)]
    alone = [predictor.predict(s.path).label_scores for s in samples]
    np.testing.assert_allclose(alone, together, atol=1e-6)
    shape = onnxruntime.InferenceSession(made.path).get_inputs()[0].shape
    assert shape[0] == "batch"


def test_certify_refuses_unreadable_images(network, tmp_path, graph):
    file = write_model_file(tmp_path / "m.onnx", graph, contract(network))
    missing = [Sample(id="x", path=tmp_path / "x.png")]
    with raises("bad-input.no-images"):
        certify(TorchBackend(network), OnnxRuntimeBackend(file.path), file, missing)


def test_certify_compares_decisions_without_ground_truth(network, samples, tmp_path, graph):
    file = write_model_file(tmp_path / "m.onnx", graph, contract(network))
    bare = [Sample(id=s.id, path=s.path) for s in samples]
    proof = certify(TorchBackend(network), OnnxRuntimeBackend(file.path), file, bare)
    assert proof.passed and proof.metric == "" and proof.metric_before is None
    json.loads(proof.model_dump_json())


def test_certify_allows_no_changed_decision_in_fp16_without_ground_truth(network, samples, tmp_path, graph):
    """Without ground truth no metric can show whether a change is for the worse."""

    class Turned(TorchBackend):
        def run(self, feeds):
            return {name: np.roll(values, 1, -1) for name, values in super().run(feeds).items()}

    file = write_model_file(tmp_path / "m.onnx", graph, contract(network))
    bare = [Sample(id=s.id, path=s.path) for s in samples]
    backends_ = TorchBackend(network), Turned(network)
    proof = certify(*backends_, file, bare, precision="fp16", max_drop=0.005)
    assert proof.decisions_changed and not proof.passed
    assert f"{proof.decisions_changed} decisions changed" in proof.reasons[0]


def detections(boxes, labels, scores):
    names = Labels(("dent", "scratch"))
    order = np.argsort(-np.asarray(scores))
    best = [max([s for s, k in zip(scores, labels, strict=True) if k == i], default=0) for i in range(2)]
    return Prediction(
        task=Task.DETECTION,
        labels=names,
        size_hw=(100, 100),
        label_index=np.asarray(labels, int)[order],
        boxes_xyxy=np.asarray(boxes, float).reshape(-1, 4)[order],
        scores=np.asarray(scores, float)[order],
        label_scores=np.array(best),
        thresholds=np.array([0.5, 0.5]),
    )


def test_object_differences_ignore_objects_below_their_threshold():
    box, far = [10, 10, 50, 50], [60, 60, 90, 90]
    first = detections([box, far], [0, 1], [0.9, 0.2])
    changed, largest = difference(first, detections([[10, 10, 50, 51], far], [0, 1], [0.8, 0.3]))
    assert changed == 0 and largest == pytest.approx(0.1)
    assert difference(first, detections([far], [1], [0.2]))[0] == 1, "an object is missing"
    assert difference(first, detections([box, far], [0, 1], [0.9, 0.6]))[0] == 1, "an object is new"
    assert difference(first, detections([box], [1], [0.9]))[0] == 2, "the same box with another label"
    assert difference(first, detections([box, box], [0, 0], [0.9, 0.8]))[0] == 1, "found twice"


def test_object_error_falls_with_scores_and_overlap():
    box, far = [10, 10, 50, 50], [60, 60, 90, 90]
    first = detections([box, far], [0, 1], [0.9, 0.1])
    assert decision_error(first, first) == pytest.approx(0)
    less, moved = (
        detections([box, far], [0, 1], [0.8, 0.1]),
        detections([[10, 10, 50, 45], far], [0, 1], [0.9, 0.1]),
    )
    assert decision_error(first, less) == pytest.approx(0.1 / 1.9)
    assert decision_error(first, moved) == pytest.approx(0.9 * 2 * 5 / 40 / 2)
    assert decision_error(first, detections([box, far], [1, 1], [0.9, 0.1])) == pytest.approx(0.9)
    none = detections([], [], [])
    assert decision_error(first, none) == decision_error(none, first) == 1 and decision_error(none, none) == 0


def test_decision_error_of_a_task_without_its_own_is_the_largest_score_difference():
    first, less = (detections([[10, 10, 50, 50]], [0], [score]) for score in (0.9, 0.7))
    fields = first.task.fields
    hooks = {name: hook for name, hook in fields.hooks.items() if name != "decision_error"}
    task = Task.define("counting", replace(fields, hooks=hooks), module=__name__)
    try:
        assert decision_error(replace(first, task=task), replace(less, task=task)) == pytest.approx(0.2)
    finally:
        TASKS.unregister("counting")


def test_count_unmatched_includes_detections_below_their_threshold():
    """Otherwise a network with low scores only would pass with any boxes."""
    boxes = [[10 * i, 10, 10 * i + 9, 50] for i in range(9)]
    first = detections(boxes, [0] * 9, [0.2] * 9)
    assert count_unmatched(first, detections(boxes, [0] * 9, [0.2005] * 9)) == (0, 18)
    moved = [[x1, 10, x2, 60] for x1, _, x2, _ in boxes]
    assert count_unmatched(first, detections(moved, [0] * 9, [0.2] * 9)) == (18, 18)
    assert count_unmatched(first, detections(boxes, [0] * 9, [0.202] * 9)) == (18, 18)
    assert count_unmatched(first, detections(boxes, [1] * 9, [0.2] * 9)) == (18, 18)
    assert count_unmatched(first, detections(boxes[:8], [0] * 8, [0.2] * 8)) == (1, 17)
    assert count_unmatched(first, detections([], [], [])) == (9, 9)
    assert (
        exceeds_rounding(18, 18)
        and not exceeds_rounding(2, 18)
        and not exceeds_rounding(4, 200)
        and exceeds_rounding(5, 200)
    )


def test_count_unmatched_compares_the_pixels_of_masks():
    def with_mask(rows):
        pixels = np.zeros((100, 100), bool)
        pixels[10 : 10 + rows, 10:50] = True
        found = detections([[10, 10, 50, 50]], [0], [0.2])
        return replace(found, task=Task.SEGMENTATION, masks=(mask_from_array(pixels),))

    assert count_unmatched(with_mask(40), with_mask(40)) == (0, 2)
    assert count_unmatched(with_mask(40), with_mask(39)) == (2, 2), "a fortieth of it is gone"


def test_certify_refuses_moved_boxes_of_low_score(samples, tmp_path, graph):
    torch.manual_seed(0)
    network: Any = create(
        "ssd300-resnet50", task="detection", label_count=2, backbone="resnet18", input_size=64
    )
    with torch.no_grad():
        for head in network.score_heads:
            head.weight.mul_(20)
    names = [LabelSpec(name=n, display_name=n) for n in ("dent", "scratch")]
    model_contract = Contract(
        architecture="ssd300-resnet50", task=network.task, labels=names, inputs=network.inputs,
        outputs=network.outputs, decoder=network.decoder, thresholds={"dent": 0.99, "scratch": 0.99},
    )  # fmt: skip
    bare = [Sample(id=s.id, path=s.path) for s in samples]

    class Elsewhere(TorchBackend):
        def run(self, feeds):
            outputs = super().run(feeds)
            return outputs | {"boxes": outputs["boxes"] * np.float32(0.9)}

    file = write_model_file(tmp_path / "m.onnx", graph, model_contract)
    assert certify(TorchBackend(network), TorchBackend(network), file, bare).passed
    proof = certify(TorchBackend(network), Elsewhere(network), file, bare)
    assert not proof.decisions_changed and not proof.passed
    assert "detections moved" in proof.reasons[0]


def test_object_differences_match_the_box_of_larger_iou():
    first = detections([[10, 10, 50, 51], [10, 10, 50, 45]], [0, 0], [0.9, 0.8])
    second = detections([[10, 10, 50, 48], [10, 10, 50, 51.5]], [0, 0], [0.9, 0.8])
    assert difference(first, second)[0] == 0
