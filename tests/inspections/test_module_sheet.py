"""Decisions about the cells of solar modules, as a sheet and as findings."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from blemish import cli
from blemish.data.synthetic import modules, save_image
from blemish.imaging import LoadedImage, open_image
from blemish.inference import load
from blemish.inspections.module_grid import find_grid
from blemish.inspections.module_image import draw_sheet
from blemish.inspections.module_sheet import ModuleSheet, cut_cells, inspect_module, measure_inactive
from blemish.structures import Prediction, Task
from blemish.testing import raises


@pytest.fixture(scope="module")
def drawn():
    return next(modules(1, 6, size=900))


@pytest.fixture(scope="module")
def cell_model(tmp_path_factory, tiny):
    path = tmp_path_factory.mktemp("model") / "cells.onnx"
    tiny.write_scores_model(path, task=Task.MULTILABEL, labels=("crack", "inactive"))
    return path


def run_cli(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["blemish", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def test_cut_cells_are_upright(drawn):
    grid = find_grid(drawn.image)
    cut = list(cut_cells(drawn.image, grid, (60, 60)))
    assert len(cut) == 60 and {cell.size_hw for cell in cut} == {(60, 60)}
    middle = [float(cell.pixels[20:40, 20:40].mean()) for cell in cut]
    dead = drawn.inactive_shares.ravel() == 1
    assert dead.any() and max(np.array(middle)[dead]) < 0.4 * np.median(middle)
    natural = next(iter(cut_cells(drawn.image, grid)))
    assert min(natural.size_hw) > 50


def test_cut_cells_keeps_16_bits(drawn):
    gray = drawn.image.pixels[..., 0].astype(np.uint16) * 200
    grid = find_grid(drawn.image)
    cut = next(iter(cut_cells(LoadedImage(gray, white_level=60000), grid, (50, 50))))
    plain = next(iter(cut_cells(drawn.image, grid, (50, 50))))
    assert cut.is_16bit and cut.white_level == 60000
    assert np.abs(cut.pixels / 200 - plain.pixels[..., 0]).max() < 1.1


def test_measure_inactive_equals_the_drawn_share(drawn):
    share = measure_inactive(drawn.image, find_grid(drawn.image))
    assert np.abs(share - drawn.inactive_shares).max() < 0.06
    assert share.mean() == pytest.approx(drawn.inactive_shares.mean(), abs=0.004)


def test_inspect_module_gives_each_cell_its_decision(drawn, cell_model):
    predictor = load(cell_model, backend="onnxruntime")
    sheet = inspect_module(drawn.image, predictor, (6, 10))
    values = sheet.to_dict()
    assert [cell["name"] for cell in values["cells"]][:11] == [*(f"R1C{k}" for k in range(1, 11)), "R2C1"]
    singles = predictor.predict(list(cut_cells(drawn.image, sheet.grid)))
    assert all(isinstance(single, Prediction) for single in singles)
    expected = [set(single.label_names) for single in singles]
    assert [{label for label, _ in cell.labels} for cell in sheet.cells] == expected
    assert values["damaged_cells"] == sum(map(bool, expected))
    row, column = np.unravel_index(measure_inactive(drawn.image, sheet.grid).argmax(), (6, 10))
    assert values["worst_cell"] == f"R{row + 1}C{column + 1}"
    assert json.loads(json.dumps(values)) == values
    assert ModuleSheet.from_dict(values).to_dict() == values


def test_inspect_module_refuses_models_that_cannot_judge_cells(drawn, tmp_path, tiny):
    tiny.write_scores_model(tmp_path / "m.onnx", labels=("defective", "functional"))
    classifier = load(tmp_path / "m.onnx", backend="onnxruntime")
    with raises("bad-input.normal-labels"):
        inspect_module(drawn.image, classifier)
    with raises("unknown-name.label"):
        inspect_module(drawn.image, classifier, normal_labels=["good"])
    sheet = inspect_module(drawn.image, classifier, normal_labels=["defective", "functional"])
    assert sheet.to_dict()["counts"] == {}


def test_draw_sheet_shows_every_cell(drawn, cell_model):
    sheet = inspect_module(drawn.image, load(cell_model, backend="onnxruntime"))
    drawing = draw_sheet(drawn.image, sheet, width=800)
    assert drawing.mode == "RGB" and 700 < drawing.width <= 800 and drawing.height > 400
    deep = LoadedImage(drawn.image.pixels[..., 0].astype(np.uint16) * 257)
    assert draw_sheet(deep, sheet, width=800).size == drawing.size


def test_module_command_writes_the_sheet(drawn, cell_model, tmp_path, monkeypatch, capsys):
    pytest.importorskip("fpdf")
    save_image(drawn.image, tmp_path / "module.png")
    words = ("inspections", "module", tmp_path / "module.png", "--model", cell_model)
    code, out, err = run_cli(
        monkeypatch, capsys, *words, "--grid", "6x10", "-o", tmp_path / "sheet", "--json"
    )
    assert code == 0, err
    values = json.loads(out)
    assert json.loads((tmp_path / "sheet" / "sheet.json").read_text()) == values
    assert (tmp_path / "sheet" / "sheet.pdf").read_bytes().startswith(b"%PDF-")
    assert open_image(tmp_path / "sheet" / "sheet.png").size_hw[1] > 1000
    assert len(list((tmp_path / "sheet" / "cells").glob("R*C*.png"))) == 60
    assert run_cli(monkeypatch, capsys, *words, "-o", tmp_path / "sheet")[0] == 2
    assert run_cli(monkeypatch, capsys, *words, "--grid", "6x12")[0] == 2
    assert run_cli(monkeypatch, capsys, *words, "--corners", "1,2,3")[0] == 2
    code, out, _ = run_cli(monkeypatch, capsys, *words)
    assert code == 0 and "6 rows x 10 columns" in out


def test_add_command_stores_modules(drawn, cell_model, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("fpdf")
    from blemish.inspections.module_inspector import module_sheets
    from blemish.inspections.store import InspectionStore

    save_image(drawn.image, tmp_path / "module.png")
    Image.new("RGB", (300, 300), (9, 9, 9)).save(tmp_path / "black.png")
    store = ("--store", tmp_path / "store")
    _, made, _ = run_cli(monkeypatch, capsys, "inspections", "create", "M-1", "--kind", "pv_module", *store)
    inspection = made.strip()
    files = (tmp_path / "module.png", tmp_path / "black.png")
    words = (
        "inspections",
        "add",
        inspection,
        *files,
        *store,
        "--model",
        cell_model,
        "--grid",
        "auto",
        "--json",
    )
    code, out, err = run_cli(monkeypatch, capsys, *words)
    assert code == 1, err
    values = json.loads(out)
    assert [(r["path"], r["code"]) for r in values["refused"]] == [("black.png", "bad-input.no-module")]
    with InspectionStore.open(tmp_path / "store") as opened:
        (run, sheet), *others = module_sheets(opened, inspection).values()
        assert not others and run.model_digest == sheet.model_digest
        findings = opened.findings.of_inspection(inspection)
        cells = {(cell.name, label) for cell in sheet.cells for label, _ in cell.labels}
        assert {(f.part, f.label) for f in findings} == cells and len(findings) == values["findings"]
        assert all(len(f.polygons[0]) == 4 and "inactive_share" in f.measures for f in findings)
    code, _, err = run_cli(
        monkeypatch, capsys, "inspections", "report", inspection, *store, "-o", tmp_path / "r.pdf"
    )
    assert code == 0, err
    again = ("inspections", "add", inspection, *store, "--model", cell_model, "--grid", "6x10")
    assert run_cli(monkeypatch, capsys, *again)[0] == 2  # the black image has no module
    assert run_cli(monkeypatch, capsys, *again, "--min-score", "0.5")[0] == 2


def test_modules_command_draws_images(tmp_path, monkeypatch, capsys):
    words = ("data", "synthesize", "modules", "--count", "1", "--size", "600", "-o", tmp_path / "m")
    code, _, err = run_cli(monkeypatch, capsys, *words)
    assert code == 0, err
    (image,) = (tmp_path / "m").rglob("*.png")
    assert find_grid(open_image(image)).columns == 10


def test_add_stores_no_image_if_an_option_or_a_model_file_is_wrong(
    tmp_path, cell_model, tiny, monkeypatch, capsys
):
    store = ("--store", tmp_path / "store")
    inspection = run_cli(monkeypatch, capsys, "inspections", "create", "M-1", *store)[1].strip()
    Image.new("L", (90, 60), 40).save(tmp_path / "a.png")
    add = ("inspections", "add", inspection, tmp_path / "a.png", *store)
    scores = tiny.write_scores_model(tmp_path / "scores.onnx").path
    mistakes = [
        ("--model", tmp_path / "missing.onnx"),
        ("--model", cell_model, "--grid", "6x1O"),
        ("--model", cell_model, "--grid", "6x10", "--corners", "1,2"),
        ("--model", cell_model, "--corners", "0,0,9,0,9,9,0,9"),
        ("--model", cell_model, "--normal", "no label"),
        ("--model", cell_model, "--grid", "6x10", "--normal", "no label"),
        ("--model", cell_model, "--mm-per-pixel", "0"),
        ("--model", cell_model, "--parts", scores),
        ("--mm-per-pixel", "0.2"),
    ]
    for words in mistakes:
        assert run_cli(monkeypatch, capsys, *add, *words)[0] == 2, words
    shown = run_cli(monkeypatch, capsys, "inspections", "show", inspection, *store, "--json")[1]
    assert json.loads(shown)["images"] == []
    assert run_cli(monkeypatch, capsys, *add, "--model", cell_model)[0] == 0
