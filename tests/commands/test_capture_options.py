"""`predict` and `calibrate` with limits of usual images, as users type them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from blemish import cli
from blemish.errors import BadInput
from blemish.model_file import InputSpec, read_model_file


def run(*arguments):
    result = CliRunner().invoke(cli.build_app([arguments[0]]), [*map(str, arguments)], catch_exceptions=False)
    return result.stdout


@pytest.fixture
def place(tmp_path, tiny):
    tiny.write_scores_model(tmp_path / "model.onnx", inputs=(InputSpec(size_hw=(32, 32)),))
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(60, 200, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
    Image.new("RGB", (40, 40), (255, 255, 255)).save(tmp_path / "white.png")
    return tmp_path


def test_calibrate_learns_limits_that_predict_applies(place):
    model, gated = place / "model.onnx", place / "gated.onnx"
    learned = json.loads(
        run("calibrate", "--model", model, "--capture-images", place / "photos", "--output", gated, "--json")
    )
    assert learned["capture"]["images"] == 24 and learned["unreadable"] == 0
    assert read_model_file(gated).contract.capture.images == 24
    assert "RETAKE" not in run("predict", place / "photos" / "0.png", "--model", gated, "--capture-check")
    line = json.loads(run("predict", place / "white.png", "--model", gated, "--capture-check", "--json"))
    assert line["capture"]["retake"] and line["labels"]
    assert "RETAKE" in run("predict", place / "white.png", "--model", gated, "--capture-check")
    off = run("predict", place / "white.png", "--model", gated, "--json")
    assert json.loads(off)["capture"] is None
    assert "limits of 24 images" in run("info", gated)


def test_a_file_of_predictions_does_not_compare_images_so_that_it_can_be_resumed(place):
    run("calibrate", "--model", place / "model.onnx", "--capture-images", place / "photos")
    copy = place / "photos" / "copy.png"
    copy.write_bytes((place / "photos" / "0.png").read_bytes())
    both = (place / "photos" / "0.png", copy, "--model", place / "model.onnx", "--capture-check")
    assert "nearly identical" in run("predict", *both)
    run("predict", *both, "--output-json", place / "out.jsonl")
    lines = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    assert [line["capture"]["reasons"] for line in lines] == [[], []]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "nothing-to-calibrate"),
        (["--data", "a", "--capture-images", "b"], "calibrate-twice"),
        (["--data", "a", "--capture-rate", "0.1"], "calibrate-options"),
        (["--capture-images", "a", "--split", "val"], "calibrate-options"),
    ],
)
def test_calibrate_needs_labeled_or_usual_images(place, options, reason):
    with pytest.raises(BadInput) as caught:
        run("calibrate", "--model", place / "model.onnx", *options)
    assert caught.value.code == f"bad-input.{reason}"


def test_the_table_of_predictions_has_columns_for_what_is_known_of_each_image(place):
    from blemish.model_file import AbstentionScores, LabelScores, read_graph, write_model_file

    model = place / "model.onnx"
    run("calibrate", "--model", model, "--capture-images", place / "photos")
    contract = read_model_file(model).contract
    grid = tuple(np.linspace(0.5, 0.9, 39).round(4).tolist())
    names = contract.to_labels().names
    scores = AbstentionScores(labels={name: LabelScores(present=grid, absent=grid) for name in names})
    write_model_file(model, read_graph(model), contract.model_copy(update={"abstention": scores}))
    images = (place / "photos" / "0.png", place / "white.png")
    run(
        "predict",
        *images,
        "--model",
        model,
        "--capture-check",
        "--save",
        "csv",
        "--save-to",
        place / "out",
        "--risk",
        "0.05",
    )
    with (place / "out" / "labels.csv").open(encoding="utf-8", newline="") as file:
        columns = {Path(row["filename"]).stem: row for row in csv.DictReader(file)}
    assert columns["0"]["retake"] == "usual" and "overexposed" in columns["white"]["retake"].split("|")
    assert {row["decision"] for row in columns.values()} <= {"decided", "review"}
    assert all((row["decision"] == "decided") == (row["review_reason"] == "none") for row in columns.values())
    assert all(row["label"] in names for row in columns.values())
