import json
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.brightness import BrightnessBackend, brightness_predictor, dataset_of

from blemish.evaluation.comparison import compare, distinct_names
from blemish.evaluation.comparison_files import save_comparison
from blemish.evaluation.comparison_plot import _place_name
from blemish.inference import Predictor
from blemish.model_file import ParityCertificate, write_model_file
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task
from blemish.testing import raises

LEVELS = [20, 40, 60, 200, 220, 240]
RIGHT = [0, 0, 0, 1, 1, 1]


class InvertedBackend(BrightnessBackend):
    """Always predicts dark as bright and bright as dark."""

    def run(self, feeds):
        return {name: -values for name, values in super().run(feeds).items()}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three model files: one that is always correct, one that is always wrong, and one of another task."""
    made = {}
    for name, task in (
        ("right", Task.CLASSIFICATION),
        ("wrong", Task.CLASSIFICATION),
        ("many", Task.MULTILABEL),
    ):
        (tmp_path / name).mkdir()
        predictor = brightness_predictor(tmp_path / name / "model.onnx", task=task)
        if name == "wrong":
            predictor = Predictor(InvertedBackend(2), predictor.model_file)
        made[tmp_path / name / "model.onnx"] = predictor
    monkeypatch.setattr("blemish.inference.load", lambda path, **options: made[path])
    monkeypatch.setattr("blemish.model_file.read_model_file", lambda path: made[path].model_file)
    return dict(zip(("right", "wrong", "many"), made, strict=True))


def test_compare_puts_the_best_model_first_and_save_comparison_writes_three_files(files, tmp_path):
    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    comparison = compare([files["wrong"], files["right"]], data, intervals=False)
    assert [c.name for c in comparison.models] == ["brightness-rule (right)", "brightness-rule (wrong)"]
    assert [c.metrics["accuracy"].value for c in comparison.models] == [1, 0]
    assert comparison.models[0].labels["bright"].value == 1
    assert comparison.models[0].milliseconds > 0
    assert comparison.models[0].bytes == len(b"unused")
    save_comparison(comparison, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written["schema_version"] == 1
    assert written["primary_metric"] == "macro_f1"
    assert written["models"][1]["metrics"]["macro_f1"]["value"] == 0
    table = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1
    plot = ET.fromstring((tmp_path / "out" / "comparison.svg").read_text())
    words = [element.text for element in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert "brightness-rule (right)" in words and "Macro F1" in words


def test_compare_a_single_model(files, tmp_path):
    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    comparison = compare([files["right"]], data)
    assert comparison.models[0].metrics["macro_f1"].high == 1
    save_comparison(comparison, tmp_path / "out")


def test_compare_rejects_models_of_different_tasks(files, tmp_path):
    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    with raises("wrong-task.several-tasks", files["right"], files["many"], "classification", "multilabel"):
        compare([files["right"], files["many"]], data)
    with raises("bad-input.no-model"):
        compare([], data)


def test_compare_rejects_unknown_labels_before_it_loads_a_model(files, tmp_path, monkeypatch):
    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    names = ("blinding", *data.labels.names[1:])
    samples = tuple(
        replace(s, ground_truth=replace(s.ground_truth, labels=Labels(names))) for s in data.samples
    )
    monkeypatch.setattr("blemish.inference.load", lambda *a, **k: pytest.fail("a model was loaded"))
    with raises("bad-input.label-not-in-model", files["right"], "blinding"):
        compare([files["right"]], replace(data, labels=Labels(names), samples=samples))


def test_compare_models_with_and_without_masks_by_boxes(tiny, tmp_path):
    found = {
        "boxes": np.array([[0, 0, 4, 4]], np.float32),
        "scores": np.array([0.9], np.float32),
        "labels": np.array([0], np.int64),
    }
    files = []
    for task, more in (
        (Task.DETECTION, {}),
        (Task.SEGMENTATION, {"masks": np.eye(8, dtype=np.float32)[None]}),
    ):
        outputs = found | more
        roles = tuple({"name": n, "role": n, "activation": "probabilities"} for n in outputs)
        promise = tiny.contract(task, outputs=roles, decoder={"name": "final"}, min_score=0.1, name=str(task))
        files.append(write_model_file(tmp_path / f"{task}.onnx", tiny.fixed_graph(**outputs), promise).path)
    path = tmp_path / "p.png"
    Image.new("RGB", (8, 8)).save(path)
    labels = tiny.contract(Task.DETECTION).to_labels()
    shared = {"task": Task.DETECTION, "labels": labels, "size_hw": (8, 8), "label_index": np.array([0])}
    ground_truth = GroundTruth(**shared, boxes_xyxy=np.array([[0.0, 0, 4, 4]]))
    sample = Sample(id="p.png", path=path, size_hw=(8, 8), ground_truth=ground_truth)
    data = Dataset(task=Task.DETECTION, labels=labels, samples=(sample,), root=tmp_path)
    comparison = compare(files, data, intervals=False)
    assert comparison.by_boxes
    assert [c.metrics["ap"].value for c in comparison.models] == pytest.approx([1, 1])
    with raises("wrong-task", "detection", "segmentation"):
        compare(files[1:], data)


def test_speed_plot_names_do_not_overlap():
    dots = [(300.0, 402.0), (330.0, 400.0), (310.0, 380.0), (90.0, 406.0)]
    occupied = [(x - 7, y - 7, x + 7, y + 7) for x, y in dots]
    for x, y in dots:
        assert 34 <= _place_name(x, y, "ssd300-resnet50", occupied)[1] <= 405
    assert len(occupied) == 2 * len(dots)
    for i, (left, top, right, bottom) in enumerate(occupied):
        assert left >= 64
        assert not any(
            left < c and a < right and top < d and b < bottom for a, b, c, d in occupied[max(i + 1, 4) :]
        )


def test_distinct_names_of_equal_runs(files, tmp_path):
    made = [brightness_predictor(p).model_file for p in files.values()]
    same_folder = [replace(made[0], path=tmp_path / "a" / f"{i}.onnx") for i in range(2)]
    names = distinct_names(
        [*same_folder, replace(made[0], contract=made[0].contract.model_copy(update={"name": "x"}))]
    )
    assert len(set(names)) == 3
    assert names[2] == "x"


def test_distinct_names_of_precisions_of_one_run(files, tmp_path):
    file = brightness_predictor(files["right"]).model_file

    def of(path, precision):
        certificate = ParityCertificate(
            passed=True, images=1, decisions_changed=0, max_difference=0, precision=precision
        )
        contract = file.contract.model_copy(update={"name": "cars", "certificate": certificate})
        return replace(file, path=tmp_path / path, contract=contract)

    full, half = of("a/model.onnx", "fp32"), of("a/model.fp16.onnx", "fp16")
    assert distinct_names([full, half]) == ["cars (fp32)", "cars (fp16)"]
    other = of("b/model.onnx", "fp32")
    assert distinct_names([full, half, other]) == ["cars (fp32) (a)", "cars (fp16)", "cars (fp32) (b)"]
    assert distinct_names([full, other]) == ["cars (a)", "cars (b)"]
    again = of("a/copy.onnx", "fp32")
    assert distinct_names([full, again]) == ["cars (model.onnx)", "cars (copy.onnx)"]


def test_compare_command_prints_a_table_and_json(files, tmp_path, monkeypatch, capsys):
    from blemish.cli import main

    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    monkeypatch.setattr("blemish.evaluation.comparison.open_for", lambda *a: data)
    monkeypatch.setenv("COLUMNS", "160")
    shared = ["blemish", "compare", str(files["right"]), str(files["wrong"]), "-d", str(tmp_path / "data")]
    monkeypatch.setattr("blemish.inference.load", _by_text(files))
    monkeypatch.setattr("blemish.model_file.read_model_file", lambda path: _by_text(files)(path).model_file)
    for extra in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", [*shared, *extra, "--no-intervals", "-o", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
    out = capsys.readouterr().out
    assert "brightness-rule (right)" in out
    assert json.loads(out[out.index("{") :])["images"] == 6


def _by_text(files):
    def load(path, **options):
        predictor = brightness_predictor(path)
        return Predictor(InvertedBackend(2), predictor.model_file) if path == files["wrong"] else predictor

    return load
