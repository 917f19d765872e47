"""`blemish data`: exit codes, options and output."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from blemish.commands.data_command import app
from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.errors import BadInput


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_data_commands(labeled, tmp_path, outside):
    checked = run("check", labeled, "--json", "--fast")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["images"] == 4
    assert json.loads(run("stats", labeled, "--json").stdout)["task"] == "multilabel"
    assert "Crack" in run("stats", labeled, "--html", tmp_path / "s.html").stdout
    assert (tmp_path / "s.html").read_text().startswith("<!doctype html>")
    assert run("preview", labeled, "-o", tmp_path / "p.png", "--count", 2, "--split", "val").exit_code == 0
    with Image.open(tmp_path / "p.png") as drawing:
        assert drawing.width > 600
    split = run("split", labeled, "-o", outside / "split", "--fractions", "train=0.5,test=0.5", "--json")
    assert json.loads(split.stdout)["losses"] == []
    assert open_dataset(outside / "split").splits == {"train": 2, "test": 2}
    merged = run("merge", outside / "split", labeled, "-o", outside / "merged", "--link")
    assert "8 images as csv" in merged.stdout
    drawn = run("synthesize", "panels", "-o", tmp_path / "panels", "--count", 4, "--size", 48)
    assert drawn.exit_code == 0
    converted = run("convert", tmp_path / "panels", "--to", "yolo", "-o", tmp_path / "yolo")
    assert "not kept" in converted.stdout


def test_check_exit_codes_with_and_without_fix(labeled, tmp_path, outside):
    (tmp_path / "d.png").write_bytes(b"")
    found = run("check", labeled)
    assert found.exit_code == 1
    assert "error: empty-file (1)" in found.stdout
    fixed = run("check", labeled, "--fix", "-o", outside / "fixed")
    assert fixed.exit_code == 0
    assert len(open_dataset(outside / "fixed")) == 3


def test_check_fix_uses_column_options(draw, outside, table):
    for i in range(10):
        draw(f"{i}.png", (30, 20))
    lines = "".join(f"{i}.png,dent,x{i},2,3,10,{30 if i == 4 else 8}\n" for i in range(10))
    path = table(f"file,shape,remark,a,b,c,d\n{lines}")
    options = ("--column", "label=shape", "--box-order", "xywh", "--fast")
    found = run("check", path, *options, "--json")
    assert json.loads(found.stdout)["counts"] == {"box-outside": 1}
    fixed = run("check", path, *options, "--fix", "-o", outside / "fixed")
    assert fixed.exit_code == 0
    assert check(outside / "fixed", duplicates=False).counts == {}


@pytest.mark.parametrize(
    ("arguments", "code", "fact"),
    [
        (("check", ".", "--fix"), "bad-input.option", "--output"),
        (("split", ".", "-o", "../x", "--fractions", "train:1"), "bad-input.option", "train:1"),
        (("stats", ".", "--column", "label"), "bad-input.option", "--column"),
        (("preview", ".", "-o", "grid.pdf.txt"), "bad-input.option", "grid.pdf.txt"),
        (("check", ".", "--task", "guess"), "unknown-name.task", "guess"),
        (("check", ".", "--only", "images.mising"), "unknown-name.check", "images.missing"),
        (("check", ".", "--skip", "nothing.*"), "unknown-name.check", "nothing.*"),
        (("check", ".", "--fix", "-o", "../x", "--only", "images.*"), "bad-input.option", "--only"),
        (("check",), "bad-input.missing-argument", "DATA"),
    ],
)
def test_invalid_options(labeled, monkeypatch, arguments, code, fact):
    monkeypatch.chdir(labeled.parent)
    result = run(*arguments)
    assert result.exception.code == code
    assert fact in str(result.exception)


def test_stats_label_like_markup_and_no_labels(draw, tmp_path):
    draw("a.png", (30, 20))
    page = {"images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}], "annotations": []}
    for categories, shown in (([{"id": 1, "name": "[/bold]"}], "[/bold]"), ([], "images")):
        (tmp_path / "annotations.json").write_text(json.dumps({**page, "categories": categories}))
        result = run("stats", tmp_path)
        assert result.exit_code == 0, result.exception
        assert shown in result.output


def test_check_prints_notes_of_the_reader(draw, tmp_path):
    for split in ("train", "val"):
        for label in ("dent", "fine"):
            draw(f"{split}/{label}/{split}-{label}.png")
    draw("extra/crack/z.png")
    result = run("check", tmp_path)
    assert "'extra'" in result.stderr
    assert json.loads(run("check", tmp_path, "--json", "--fast").stdout)["notes"]


def test_check_exit_code_2(labeled, tmp_path):
    assert run("check", tmp_path / "nowhere").exit_code == 2
    for options in (
        ("--box-order", "foo"),
        ("--format", "foo"),
        ("--task", "foo"),
        ("-o", tmp_path / "out"),
    ):
        assert isinstance(run("check", labeled, *options).exception, BadInput)


def test_convert_removes_output_of_refused_conversion(draw, table, outside):
    for name in ("a.png", "b.png"):
        draw(name)
    path = table("file,label\na.png,dent\nb.png,w/x\n")
    for _ in range(2):  # the first attempt must not leave anything
        result = run("convert", path, "--to", "folders", "-o", outside / "out")
        assert result.exception.code == "bad-input.folder-name"
        assert "w/x" in str(result.exception)
    assert not (outside / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("convert", "set", "--to", "csv"),
        ("convert", "set/labels.csv", "--to", "csv"),
        ("convert", "table/labels.csv", "--images", "set", "--to", "csv"),
        ("split", "set"),
        ("merge", "other", "set"),
        ("check", "set", "--fix"),
    ],
    ids=" ".join,
)
def test_output_inside_source_is_refused(draw, tmp_path, monkeypatch, arguments):
    text = "filename,label\na.png,dent\nb.png,rust\n"
    for folder in ("set", "other"):
        for name in ("a.png", "b.png"):
            draw(f"{folder}/{name}")
        (tmp_path / folder / "labels.csv").write_text(text)
    (tmp_path / "table").mkdir()
    (tmp_path / "table/labels.csv").write_text(text)
    (tmp_path / "link").symlink_to(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for inside in ("set/deep/out", "link/out", "set/../set/out"):
        result = run(*arguments, "--output", inside)
        assert result.exception.code == "bad-input.output-inside-source"
        assert inside in str(result.exception)
    assert sorted(tmp_path.rglob("*")) == before
    assert (
        run(*arguments, "--output", "settled/out").exit_code == 0
    )  # beside it, with a name that begins the same


def test_convert_warns_of_damaged_images(draw, tmp_path):
    for name in ("dent/a.png", "dent/b.png", "rust/c.png", "rust/d.jpg"):
        draw(f"set/{name}")
    (tmp_path / "set/dent/b.png").write_bytes(b"")
    whole = (tmp_path / "set/rust/d.jpg").read_bytes()
    (tmp_path / "set/rust/d.jpg").write_bytes(whole[: len(whole) // 2])
    result = run("convert", tmp_path / "set", "--to", "csv", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "2 images are damaged" in result.stderr
    assert "dent/b.png, rust/d.jpg" in result.stderr
    as_json = run("convert", tmp_path / "set", "--to", "csv", "-o", tmp_path / "again", "--json")
    assert json.loads(as_json.stdout)["damaged"] == ["dent/b.png", "rust/d.jpg"]
