import json
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from brightness import BrightnessBackend, brightness_predictor, dataset_of
from PIL import Image

from blemish.errors import BadInput, WrongTask
from blemish.evaluation.comparison import compare, distinct_names
from blemish.evaluation.comparison_plot import _beside
from blemish.inference import Predictor
from blemish.model_file import write_model_file
from blemish.structures import Dataset, GroundTruth, Labels, Sample, Task

LEVELS = [20, 40, 60, 200, 220, 240]
RIGHT = [0, 0, 0, 1, 1, 1]


class Upside(BrightnessBackend):
    """Always takes dark for bright."""

    def run(self, feeds):
        return {name: -values for name, values in super().run(feeds).items()}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three model files: one that is right, one that is wrong, and one of another task."""
    made = {}
    for name, task in (
        ("right", Task.CLASSIFICATION),
        ("wrong", Task.CLASSIFICATION),
        ("many", Task.MULTILABEL),
    ):
        (tmp_path / name).mkdir()
        predictor = brightness_predictor(tmp_path / name / "model.onnx", task=task)
        if name == "wrong":
            predictor = Predictor(Upside(2), predictor.model_file)
        made[tmp_path / name / "model.onnx"] = predictor
    monkeypatch.setattr("blemish.inference.load", lambda path, **options: made[path])
    monkeypatch.setattr("blemish.model_file.read_model_file", lambda path: made[path].model_file)
    return dict(zip(("right", "wrong", "many"), made, strict=True))


def test_the_best_comes_first_and_everything_is_written(files, tmp_path):
    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    comparison = compare([files["wrong"], files["right"]], data, intervals=False)
    assert [c.name for c in comparison.contenders] == ["by-eye (right)", "by-eye (wrong)"]
    assert [c.figures["accuracy"].value for c in comparison.contenders] == [1, 0]
    assert comparison.contenders[0].labels["bright"].value == 1
    assert comparison.contenders[0].milliseconds > 0
    assert comparison.contenders[0].bytes == len(b"not looked at")
    comparison.write(tmp_path / "out")
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written["headline"] == "macro_f1"
    assert written["models"][1]["figures"]["macro_f1"]["value"] == 0
    table = (tmp_path / "out" / "comparison.md").read_text().splitlines()
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == 1
    plot = ET.fromstring((tmp_path / "out" / "comparison.svg").read_text())
    words = [element.text for element in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert "by-eye (right)" in words and "Macro F1" in words


def test_one_model_alone_is_a_comparison_too(files, tmp_path):
    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    comparison = compare([files["right"]], data)
    assert comparison.contenders[0].figures["macro_f1"].high == 1
    comparison.write(tmp_path / "out")


def test_models_of_different_tasks_do_not_compare(files, tmp_path):
    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    with pytest.raises(WrongTask, match="different tasks cannot be compared"):
        compare([files["right"], files["many"]], data)
    with pytest.raises(BadInput, match="at least one"):
        compare([], data)


def test_labels_that_a_model_does_not_know_are_told_before_any_is_looked_at(files, tmp_path, monkeypatch):
    data = dataset_of(tmp_path / "data", LEVELS, RIGHT)
    names = ("blinding", *data.labels.names[1:])
    samples = tuple(
        replace(s, ground_truth=replace(s.ground_truth, labels=Labels(names))) for s in data.samples
    )
    monkeypatch.setattr("blemish.inference.load", lambda *a, **k: pytest.fail("it was opened"))
    with pytest.raises(BadInput, match="the model does not know the data's label 'blinding'"):
        compare([files["right"]], replace(data, labels=Labels(names), samples=samples))


def test_models_with_and_without_masks_are_compared_by_boxes_on_data_of_boxes(tiny, tmp_path):
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
        promise = tiny.contract(
            task, outputs=roles, decoder={"name": "final"}, score_floor=0.1, name=str(task)
        )
        files.append(write_model_file(tmp_path / f"{task}.onnx", tiny.fixed_graph(**outputs), promise).path)
    path = tmp_path / "p.png"
    Image.new("RGB", (8, 8)).save(path)
    labels = tiny.contract(Task.DETECTION).label_vocabulary()
    shared = {"task": Task.DETECTION, "labels": labels, "size_hw": (8, 8), "label_index": np.array([0])}
    ground_truth = GroundTruth(**shared, boxes_xyxy=np.array([[0.0, 0, 4, 4]]))
    sample = Sample(id="p.png", path=path, size_hw=(8, 8), ground_truth=ground_truth)
    data = Dataset(task=Task.DETECTION, labels=labels, samples=(sample,), root=tmp_path)
    comparison = compare(files, data, intervals=False)
    assert comparison.of_boxes
    assert [c.figures["ap"].value for c in comparison.contenders] == pytest.approx([1, 1])
    with pytest.raises(WrongTask):
        compare(files[1:], data)


def test_names_in_the_plot_stand_clear_of_each_other_of_dots_and_of_the_axis():
    dots = [(300.0, 402.0), (330.0, 400.0), (310.0, 380.0), (90.0, 406.0)]
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in dots]
    for x, y in dots:
        assert 34 <= _beside(x, y, "ssd300-resnet50", taken)[1] <= 405
    assert len(taken) == 2 * len(dots)
    for i, (left, top, right, bottom) in enumerate(taken):
        assert left >= 64
        assert not any(
            left < c and a < right and top < d and b < bottom for a, b, c, d in taken[max(i + 1, 4) :]
        )


def test_names_that_collide_are_told_apart(files, tmp_path):
    made = [brightness_predictor(p).model_file for p in files.values()]
    same_folder = [replace(made[0], path=tmp_path / "a" / f"{i}.onnx") for i in range(2)]
    names = distinct_names(
        [*same_folder, replace(made[0], contract=made[0].contract.model_copy(update={"name": "x"}))]
    )
    assert len(set(names)) == 3
    assert names[2] == "x"


def test_on_the_command_line(files, tmp_path, monkeypatch, capsys):
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
    assert "by-eye (right)" in out
    assert json.loads(out[out.index("{") :])["images"] == 6


def _by_text(files):
    def load(path, **options):
        predictor = brightness_predictor(path)
        return Predictor(Upside(2), predictor.model_file) if path == files["wrong"] else predictor

    return load
