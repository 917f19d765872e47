import dataclasses
import json
import sys

import numpy as np
import pytest
from tests.evaluation.brightness import brightness_predictor, dataset_of

from blemish.abstention import Costs, Risk
from blemish.cli import main
from blemish.evaluation import evaluate
from blemish.evaluation.abstention_calibration import collect_scores
from blemish.evaluation.abstention_report import abstention_warnings
from blemish.model_file import AbstentionScores, LabelScores
from blemish.structures import Task
from blemish.testing import raises


def levels(rng, count, shift=0):
    """Return brightness levels and labels that overlap around the middle."""
    actual = rng.integers(0, 2, count)
    return np.clip(rng.normal(np.where(actual, 150, 100) + shift, 20), 0, 255).astype(int), actual


def predict(predictor, dataset):
    return [r.prediction for r in predictor.stream([s.path for s in dataset.samples])]


@pytest.fixture
def calibrated(tmp_path):
    rng = np.random.default_rng(0)
    data = dataset_of(tmp_path / "val", *levels(rng, 120), split="val")
    plain = brightness_predictor(tmp_path / "model.onnx")
    scores = collect_scores(predict(plain, data), data.samples, split="val")
    return brightness_predictor(tmp_path / "model.onnx", abstention=scores), rng


def test_evaluate_reports_coverage_curve_and_decided_share(calibrated, tmp_path):
    predictor, rng = calibrated
    data = dataset_of(tmp_path / "test", *levels(rng, 150))
    report = evaluate(predictor, data, policy=Risk(0.1), intervals=False, output=tmp_path / "out")
    section = report.abstention
    assert 0.3 < section["decided"] < 1 and section["error"] < 0.2
    assert [s["side"] for s in section["sides"]] == ["present", "present"]
    assert all(s["expected_low"] <= s["coverage"] <= s["expected_high"] for s in section["sides"])
    shares = [row["decided"] for row in section["curve"]]
    assert len(shares) > 10 and shares[0] < shares[6]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["abstention"]["risk"] == 0.1
    assert "risk-coverage" in (tmp_path / "out" / "report.html").read_text()


def test_evaluate_warns_if_the_images_are_of_another_camera(calibrated, tmp_path):
    predictor, rng = calibrated
    data = dataset_of(tmp_path / "test", *levels(rng, 150, shift=-45))
    report = evaluate(predictor, data, policy=Risk(0.1), intervals=False)
    assert any(s["is_outside"] for s in report.abstention["sides"])
    assert any("calibrate" in w.text for w in report.warnings)
    assert not abstention_warnings({})


def test_evaluate_by_costs_has_no_coverage(calibrated, tmp_path):
    predictor, rng = calibrated
    data = dataset_of(tmp_path / "test", *levels(rng, 60))
    costs = Costs(miss=5, false_positive=1, review=0.2, good_label="dark")
    section = evaluate(predictor, data, policy=costs, intervals=False).abstention
    assert section["sides"] == [] and section["risk"] is None and section["costs"]["miss"] == 5
    assert 0 < section["decided"] < 1


def test_evaluate_without_scores_is_an_error_before_predicting(tmp_path):
    data = dataset_of(tmp_path / "test", [10, 200], [0, 1])
    with raises("bad-model-file.no-abstention"):
        evaluate(brightness_predictor(tmp_path / "model.onnx"), data, policy=Risk(0.1))


def test_collect_scores_draws_one_image_of_each_group(tmp_path):
    data = dataset_of(tmp_path / "val", [20, 25, 30, 35, 220, 210], [0, 0, 0, 0, 1, 1], split="val")
    grouped = [dataclasses.replace(s, group=g) for s, g in zip(data.samples, "aaabcc", strict=True)]
    predictor = brightness_predictor(tmp_path / "model.onnx")
    predictions = predict(predictor, data)
    scores = collect_scores(predictions, grouped, split="val")
    assert scores.groups == 3 and scores.grouped and scores.images == 6
    assert len(scores.labels["dark"].present) == 2 and len(scores.labels["bright"].present) == 1
    of_a = {round(float(p.label_scores[0]), 6) for p in predictions[:3]}
    assert len(of_a & set(scores.labels["dark"].present)) == 1
    assert collect_scores(predictions, grouped, split="val") == scores
    assert collect_scores(predictions, data.samples, split="val").groups == 6


def test_abstention_scores_must_ascend():
    with pytest.raises(ValueError, match="ascending"):
        LabelScores(present=(0.5, 0.2))


@pytest.fixture
def model(tmp_path):
    """Write a real model file: the mean of the image as logits."""
    from blemish.few_shot.trunk_graph import GraphParts
    from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec, write_model_file

    parts = GraphParts()
    pooled = parts.add("Flatten", [parts.add("GlobalAveragePool", ["image"], "pooled")], "flat", axis=1)
    weight = parts.constant("weight", np.array([[-4, 4]] * 3, np.float32))
    bias = parts.constant("bias", np.zeros(2, np.float32))
    parts.add("Gemm", [pooled, weight, bias], "scores")
    graph = parts.to_bytes({"image": ("batch", 3, 8, 8)}, {"scores": ("batch", 2)})
    contract = Contract(
        format_version=2,
        architecture="mean",
        task=Task.CLASSIFICATION,
        labels=(LabelSpec(name="dark", display_name="Dark"), LabelSpec(name="bright", display_name="Bright")),
        inputs=(InputSpec(size_hw=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3),),
        outputs=(OutputSpec(name="scores", role="scores", activation="logits"),),
        decoder=DecoderSpec(name="scores"),
    )
    return write_model_file(tmp_path / "model.onnx", graph, contract)


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["blemish", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code or 0, *capsys.readouterr()


def test_calibrate_predict_and_evaluate_commands(model, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    values, actual = levels(rng, 80)
    data = tmp_path / "labeled"
    for name, label in (("dark", 0), ("bright", 1)):
        dataset_of(data / name, values[actual == label], actual[actual == label])
    code, _, error = command(monkeypatch, capsys, "predict", data, "-m", model.path, "--risk", 0.1)
    assert code == 2 and "calibrate" in error
    code, out, _ = command(
        monkeypatch, capsys, "calibrate", "-m", model.path, "-d", data, "--json", "-o", tmp_path / "new.onnx"
    )
    assert code == 0, out
    result = json.loads(out)
    assert result["images"] == 80 and result["excluded_training_images"] == 0
    code, out, _ = command(
        monkeypatch, capsys, "predict", data, "-m", tmp_path / "new.onnx", "--risk", 0.1, "--json"
    )
    decisions = [json.loads(line)["risk_decision"] for line in out.splitlines()]
    assert code == 0 and {d["outcome"] for d in decisions} == {"label", "review"}
    code, out, _ = command(
        monkeypatch,
        capsys,
        "evaluate",
        "-m",
        tmp_path / "new.onnx",
        "-d",
        data,
        "--risk",
        0.1,
        "--no-intervals",
    )
    assert code == 0 and "coverage" in out


def test_abstention_is_none_for_files_of_earlier_formats(model):
    assert model.contract.format_version == 3 and model.contract.abstention is None
    assert AbstentionScores().labels == {}
