"""`blemish predict --save` and `--save-crops`."""

import json

import numpy as np
import pytest
import typer
from PIL import Image
from tests.service.conftest import write_detector
from typer.testing import CliRunner

from blemish.commands.predict_command import predict
from blemish.data import open_dataset
from blemish.inference import load
from blemish.inference.inputs import ImageInput, InputKind
from blemish.inference.predicted_labels import PredictedLabels
from blemish.inference.results import PredictionResult, Timing
from blemish.structures import Task
from blemish.testing import raises

FORMATS = {
    "detection": (
        "coco",
        "yolo",
        "voc",
        "labelme",
        "cvat",
        "via",
        "labelstudio",
        "csv",
        "geojson",
        "supervisely",
        "ndjson",
    ),
    "segmentation": ("coco", "labelme", "cvat", "labelstudio", "geojson", "masks"),
}


def photos(folder, count=3):
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"photos/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return folder / "photos"


def run(*arguments, stdin=None):
    app = typer.Typer()
    app.command()(predict)
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


@pytest.mark.parametrize(
    ("task", "kind"), [(task, kind) for task, kinds in FORMATS.items() for kind in kinds]
)
def test_predict_save_writes_what_the_format_reads(tmp_path, task, kind):
    model = write_detector(tmp_path / "model.onnx", task)
    source, out = photos(tmp_path), tmp_path / "out"
    result = run(source, "--model", model, "--save", kind, "--save-to", out)
    assert result.exit_code == 0, result.output
    predictor = load(model)
    found = open_dataset(out, task=Task(task), minimum_labels=1)
    assert found.format == kind and len(found) == 3
    for sample in found:
        expected = predictor.predict(next(source.rglob(sample.path.name))).filter_scores()
        assert sorted(sample.ground_truth.label_names) == sorted(expected.label_names)
        if task == "detection":
            boxes = sorted(expected.boxes_xyxy.tolist())
            np.testing.assert_allclose(sorted(sample.ground_truth.boxes_xyxy.tolist()), boxes, atol=0.51)
        assert sample.path.read_bytes() == next(source.rglob(sample.path.name)).read_bytes()


def test_predict_save_keeps_labels_of_images_and_their_scores(tmp_path, tiny):
    tiny.write_scores_model(tmp_path / "model.onnx", labels=("crack", "inactive"))
    source = photos(tmp_path)
    predictor = load(tmp_path / "model.onnx")
    for kind in ("csv", "labelme", "cvat", "labelstudio"):
        out = tmp_path / kind
        result = run(source, "--model", tmp_path / "model.onnx", "--save", kind, "--save-to", out)
        assert result.exit_code == 0, result.output
        for sample in open_dataset(out, task=Task.CLASSIFICATION, minimum_labels=1):
            expected = predictor.predict(next(source.rglob(sample.path.name)))
            assert sample.ground_truth.label_names == expected.label_names
    tasks = json.loads((tmp_path / "labelstudio/tasks.json").read_text())
    assert all(task["predictions"][0]["model_version"].startswith("model-") for task in tasks)


def test_predict_save_names_what_is_lost_and_min_score_selects(tmp_path):
    model = write_detector(tmp_path / "model.onnx")
    source = photos(tmp_path)
    result = run(source, "--model", model, "--save", "yolo", "--save-to", tmp_path / "few", "--min-score", 1)
    assert result.exit_code == 0, result.output
    assert "scores" in result.stderr
    assert not any(len(s.ground_truth) for s in open_dataset(tmp_path / "few", minimum_labels=1))


def test_predict_save_refuses_before_the_first_image(tmp_path, tiny):
    tiny.write_scores_model(tmp_path / "scores.onnx")
    model = write_detector(tmp_path / "model.onnx")
    source = photos(tmp_path)
    cases = {
        "wrong-task.format": ("scores.onnx", ["--save", "coco"]),
        "wrong-task.needs-boxes": ("scores.onnx", ["--save-crops", tmp_path / "crops"]),
        "unknown-name.writable-format": ("model.onnx", ["--save", "cocoa"]),
        "bad-input.save": ("model.onnx", ["--save-to", tmp_path / "x"]),
        "bad-input.output-inside-source": ("model.onnx", ["--save", "coco", "--save-to", source / "x"]),
        "bad-input.output-not-empty": ("model.onnx", ["--save", "coco", "--save-to", tmp_path]),
        "bad-input.resume": (
            "model.onnx",
            ["--save", "coco", "--output-json", tmp_path / "p.jsonl", "--resume"],
        ),
    }
    assert model.exists()
    for code, (name, options) in cases.items():
        result = run(source, "--model", tmp_path / name, *options)
        assert result.exception is not None and getattr(result.exception, "code", "") == code, code
        assert not result.stdout


def test_predict_save_crops_writes_each_box(tmp_path):
    model = write_detector(tmp_path / "model.onnx")
    source = photos(tmp_path)
    result = run(source, "--model", model, "--save-crops", tmp_path / "crops")
    assert result.exit_code == 0, result.output
    predictor = load(model)
    expected = {
        label: sum(
            predictor.predict(p).filter_scores().label_names.count(label) for p in source.rglob("*.png")
        )
        for label in predictor.labels
    }
    found = {label: list((tmp_path / "crops" / label).glob("*.jpg")) for label in expected}
    assert {label: len(files) for label, files in found.items()} == expected
    prediction = predictor.predict(source / "0/0.png").filter_scores()
    x1, y1, x2, y2 = prediction.boxes_xyxy[0]
    with Image.open(tmp_path / "crops" / prediction.label_names[0] / "0-1.jpg") as crop:
        assert crop.size == (np.ceil(min(x2, 60)) - np.floor(x1), np.ceil(min(y2, 40)) - np.floor(y1))


def test_predicted_labels_refuse_frames_and_nothing(tmp_path):
    predictor = load(write_detector(tmp_path / "model.onnx"))
    labels = PredictedLabels("coco", predictor.task, predictor.labels)
    frame = ImageInput(kind=InputKind.FRAME, id="walk.mp4 frame 3", path=tmp_path / "walk.mp4", frame_index=3)
    prediction = predictor.predict(np.zeros((40, 60, 3), np.uint8))
    with raises("bad-input.no-image-file", "walk.mp4"):
        labels.add(PredictionResult(frame, prediction, None, Timing()))
    with raises("bad-input.no-images"):
        labels.write(tmp_path / "out")
