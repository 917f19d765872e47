import csv
import json
import sys

import pytest
from tests.evaluation.brightness import brightness_predictor, images

from blemish.cli import main

LEVELS = [20, 40, 60, 200, 220, 240]
NAMES = ["dark", "dark", "bright", "bright", "bright", "bright"]  # one prediction is wrong


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    paths = images(folder / "photos", LEVELS)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "label"])
        writer.writerows([f"photos/{p.name}", n] for p, n in zip(paths, NAMES, strict=True))
    model = tmp_path / "model.onnx"
    monkeypatch.setattr("blemish.inference.load", lambda path, **options: brightness_predictor(model))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def blemish(data, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setattr(sys, "argv", ["blemish", "evaluate", "-m", "model.onnx", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


def test_evaluate_prints_a_table_and_writes_a_report(blemish, data, tmp_path):
    code, out, _ = blemish("-d", data, "-o", tmp_path / "out")
    assert code == 0
    assert "Macro F1" in out and "0.829" in out
    assert "Dark" in out and "Bright" in out
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["images"] == 6


def test_evaluate_json_is_alone_on_standard_output(blemish, data):
    code, out, _ = blemish("-d", data, "--json", "--no-intervals")
    report = json.loads(out)
    assert code == 0
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(5 / 6)
    assert report["metrics"]["accuracy"]["low"] is None
    assert report["top_errors"][0]["id"].endswith("002.png")


def test_evaluate_lists_an_unreadable_image_and_exits_with_one(blemish, data):
    (data / "photos" / "004.png").write_bytes(b"broken")
    code, out, _ = blemish("-d", data)
    assert code == 1
    assert "004.png" in out
    assert "5 images" in out


def test_evaluate_sample_prints_and_draws_one_image(blemish, data, tmp_path):
    code, out, _ = blemish("-d", data, "--sample", "002.png", "-o", tmp_path / "out")
    assert code == 0
    assert "Bright: ground truth yes, prediction no" in out
    assert "<- wrong" in out
    assert (tmp_path / "out" / "002.compared.png").exists()
    code, out, _ = blemish("-d", data, "--sample", "000", "-o", tmp_path / "out", "--json")
    assert json.loads(out)["prediction"]["labels"][0]["positive"] is True


def test_evaluate_label_map(blemish, data):
    table = data / "labels.csv"
    table.write_text(table.read_text().replace(",dark", ",dim"))
    code, _, err = blemish("-d", data)
    assert code == 2
    assert "'dim'" in err
    assert "--label-map dim=" in err
    code, out, _ = blemish("-d", data, "--label-map", "dim=dark")
    assert code == 0
    assert "0.829" in out


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--label-map", "dim"], ["--label-map", "DATA=MODEL", "'dim'"]),
        (["--label-map", "dim=dark"], ["label 'dim'"]),
        (["--split", "tset"], ["split 'tset'", "data"]),
        (["--sample", "none.png"], ["image 'none.png'", "data"]),
        (["--sample", "png"], ["image 'png'", "data"]),
    ],
)
def test_evaluate_prints_an_error_in_one_line(blemish, data, arguments, facts):
    code, _, err = blemish("-d", data, *arguments)
    assert code == 2
    assert all(fact in err for fact in facts)
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_evaluate_of_a_missing_data_set(blemish, tmp_path):
    code, _, err = blemish("-d", tmp_path / "nowhere")
    assert code == 2
    assert "nowhere" in err
    assert "Traceback" not in err
