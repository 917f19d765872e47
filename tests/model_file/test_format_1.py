"""Model files of format 1 load and predict as they did when they were written."""

import hashlib
import json

import numpy as np
import pytest
from tests.model_file import format_1

from blemish.inference import load
from blemish.model_file import FORMAT_VERSION, read_graph, read_model_file, write_model_file
from blemish.model_file.format_1 import upgrade
from blemish.structures import Task
from blemish.testing import raises

LABELS = [{"name": "dent", "title": "Dent"}, {"name": "scratch", "title": "Scratch ☂"}]
INPUT = {
    "name": "image",
    "size_hw": [8, 8],
    "resize": "letterbox",
    "resize_to": None,
    "interpolation": "bilinear",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "channels": 3,
    "scale": "unit",
    "white_level": 65535,
    "pad_value": 114,
    "letterbox_align": "center",
}
DETECTION = {
    "format_version": 1,
    "blemish_version": "0.1.0",
    "name": "cars",
    "architecture": "ssd300-resnet50",
    "task": "detection",
    "labels": LABELS,
    "inputs": [INPUT],
    "outputs": [
        {"name": "boxes", "role": "boxes", "activation": "none"},
        {"name": "scores", "role": "scores", "activation": "probabilities"},
    ],
    "decoder": {
        "name": "dense",
        "settings": {"score_floor": 0.05, "max_iou": 0.5, "max_detections": 10},
    },
    "temperature": 1.0,
    "thresholds": {"dent": 0.3, "scratch": 0.5},
    "thresholds_tuned_on": "val",
    "score_floor": 0.02,
    "dynamic_batch": True,
    "feature_layer": "layer4",
    "recipe": {"name": "cars", "model": {"name": "ssd300-resnet50"}},
    "training": {"seed": 0, "best_epoch": 3},
    "data": {"name": "cars", "counts": {"train": 2}, "split": {"group_by": "column:vehicle"}},
    "metrics": {
        "val": {"ap": 0.5, "ap50": 0.75},
        "val with intervals": {
            "ap": {"value": 0.5, "low": 0.4, "high": 0.6},
            "photographs": 4,
            "tuned": True,
        },
    },
    "licences": {"weights": "BSD-3-Clause", "data": "CC BY 4.0", "code": "Apache-2.0"},
    "certificate": {
        "passed": False,
        "photographs": 4,
        "verdicts_changed": 1,
        "largest_difference": 0.25,
        "metric": "ap",
        "metric_before": 0.5,
        "metric_after": 0.25,
        "backend": "onnxruntime 1.31.1 CPUExecutionProvider",
        "precision": "fp16",
        "cpu": "avx2",
        "graph_digest": "9fe9fe3205050ec501df27453b71fc89ce2e93c77ce669df69c615b102ae2f77",
        "reasons": ["1 verdicts changed"],
    },
}
FINGERPRINTS = (
    "AwAAAAAAAAAFAAAAAAAAAAcAAAAAAAAACwAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAQAAAAAAAAABQAAAAAAAAAG"
    "AAAAAAAAAAcAAAAAAAAAAAE="
)
MULTILABEL = {
    "format_version": 1,
    "blemish_version": "0.1.0",
    "name": "panels",
    "architecture": "resnet18",
    "task": "multilabel",
    "labels": LABELS,
    "inputs": [INPUT | {"resize": "shortest", "resize_to": 9, "white_level": 4095}],
    "outputs": [{"name": "logits", "role": "scores", "activation": "logits"}],
    "decoder": {"name": "scores", "settings": {}},
    "temperature": 1.25,
    "thresholds": {"scratch": 0.8},
    "thresholds_tuned_on": "val",
    "score_floor": 0.0,
    "dynamic_batch": True,
    "feature_layer": "",
    "recipe": {},
    "training": {},
    "data": {},
    "metrics": {"val": {"macro_f1": 0.30000000000000004}},
    "licences": {"weights": "", "data": "", "code": "Apache-2.0"},
    "certificate": None,
}
# SHA-256 of the files that the last version with format 1 wrote for these contracts, and its predictions for
# a gray image of 16 x 20 pixels.
DETECTION_DIGEST = "646218bdb44bd466eda365768fcda34c17bd78be4608525ffce94fb0dd649d9e"
MULTILABEL_DIGEST = "09312c9f7c42dc7d9c59a0f5505712db45e10628a8afacc8103c888f1fb48f63"
IMAGE = np.full((16, 20, 3), 128, np.uint8)


@pytest.fixture
def detection(tmp_path):
    return format_1.write(tmp_path / "cars.onnx", format_1.DETECTION_GRAPH, DETECTION, FINGERPRINTS)


@pytest.fixture
def multilabel(tmp_path):
    return format_1.write(tmp_path / "panels.onnx", format_1.CLASSIFICATION_GRAPH, MULTILABEL)


def test_the_files_are_byte_for_byte_those_that_format_1_wrote(detection, multilabel):
    assert hashlib.sha256(detection.read_bytes()).hexdigest() == DETECTION_DIGEST
    assert hashlib.sha256(multilabel.read_bytes()).hexdigest() == MULTILABEL_DIGEST


def test_read_model_file_reads_a_detector_of_format_1(detection):
    file = read_model_file(detection)
    contract = file.contract
    assert contract.format_version == FORMAT_VERSION == 3
    assert contract.task is Task.DETECTION
    assert contract.to_labels().display_names == ("Dent", "Scratch ☂")
    assert contract.decoder.settings == {"min_score": 0.05, "nms_iou": 0.5, "max_detections": 10}
    assert (contract.min_score, contract.thresholds) == (0.02, {"dent": 0.3, "scratch": 0.5})
    assert contract.licenses.model_dump() == DETECTION["licences"]
    assert contract.metrics["val with intervals"]["images"] == 4
    proof = contract.certificate
    assert (proof.images, proof.decisions_changed, proof.max_difference) == (4, 1, 0.25)
    assert (proof.cpu_capability, proof.reasons) == ("avx2", ("1 verdicts changed",))
    assert proof.graph_digest == file.graph_digest
    assert file.digest == DETECTION_DIGEST
    assert file.fingerprints.pixel.tolist() == [3, 5]
    for key in ("name", "architecture", "recipe", "training", "data", "feature_layer", "thresholds_tuned_on"):
        assert getattr(contract, key) == DETECTION[key], key


def test_a_detector_of_format_1_predicts_the_same(detection):
    prediction = load(detection).predict(IMAGE)
    assert prediction.label_index.tolist() == [0, 1, 0, 1]
    recorded = [0.8999999761581421, 0.6000000238418579, 0.20000000298023224, 0.10000000149011612]
    assert prediction.scores.tolist() == recorded
    small, large = [2.5, 0.0, 10.0, 8.0], [7.5, 2.6666666666666665, 18.75, 13.333333333333334]
    np.testing.assert_allclose(prediction.boxes_xyxy, [small, large, large, small], atol=1e-12)
    assert prediction.label_scores.tolist() == recorded[:2]
    assert prediction.thresholds.tolist() == [0.3, 0.5]
    assert prediction.decide().tolist() == [True, True]
    assert prediction.model_digest == DETECTION_DIGEST


def test_a_multilabel_model_of_format_1_predicts_the_same(multilabel):
    prediction = load(multilabel).predict(IMAGE)
    np.testing.assert_allclose(prediction.label_scores, [0.549833997312478, 0.7685247834990175], atol=1e-12)
    assert prediction.thresholds.tolist() == [0.5, 0.8]
    assert prediction.decide().tolist() == [True, False]
    assert read_model_file(multilabel).contract.metrics["val"]["macro_f1"] == 0.1 + 0.2


def test_a_file_of_format_1_is_written_again_in_the_current_format(detection, tmp_path):
    file = read_model_file(detection)
    again = write_model_file(tmp_path / "again.onnx", read_graph(detection), file.contract, file.fingerprints)
    assert again.contract == file.contract
    assert again.graph_digest == file.graph_digest
    content = again.path.read_bytes()
    assert b'"format_version":3' in content
    assert not any(key in content for key in (b"licences", b'"title"', b"verdicts_changed", b"score_floor"))


@pytest.mark.parametrize("key", ["min_score", "licenses"])
def test_upgrade_names_a_wrong_value_by_its_new_key(tmp_path, key):
    old = {"min_score": "score_floor", "licenses": "licences"}[key]
    path = format_1.write(tmp_path / "bad.onnx", format_1.DETECTION_GRAPH, DETECTION | {old: "x"})
    with raises("bad-model-file.damaged-contract", "bad.onnx", key):
        read_model_file(path)


def test_upgrade_keeps_parts_of_an_unexpected_type_for_validation():
    odd = {"format_version": 1, "labels": 3, "decoder": [], "certificate": "x", "metrics": None}
    assert upgrade(odd) == odd | {"format_version": 2}
    assert json.loads(json.dumps(DETECTION)) == DETECTION, "upgrade does not change its argument"
