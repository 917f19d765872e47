"""Counting, previewing, merging, drawing, and the command line that offers them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from blemish.commands.data_command import app
from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.formats import get_format
from blemish.data.merge import merge_datasets, read_map
from blemish.data.preview import preview
from blemish.data.statistics import statistics
from blemish.data.synthetic.generate import synthesize
from blemish.data.write_dataset import write_dataset
from blemish.errors import BadDataset, BadInput, UnknownName, WrongTask
from blemish.structures import Task


@pytest.fixture
def labelled(draw, table):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        draw(name, (30, 20))
    return table(
        "filename,crack,inactive,split\na.png,1,1,train\nb.png,1,0,train\nc.png,0,0,val\nd.png,0,1,val\n"
    )


def test_statistics_are_those_of_numpy(labelled, tmp_path):
    found = statistics(open_dataset(labelled))
    assert [(x.name, x.images, x.by_split) for x in found.labels] == [
        ("crack", 2, {"train": 2, "val": 0}),
        ("inactive", 2, {"train": 1, "val": 1}),
    ]
    assert found.together == ((2, 1), (1, 2))
    assert found.clean == 0.25
    assert found.sides["width"] == (30, 30.0, 30)
    pixels = (
        np.concatenate([np.asarray(Image.open(tmp_path / f"{n}.png")).reshape(-1, 3) for n in "abcd"]) / 255
    )
    np.testing.assert_allclose(found.mean, pixels.mean(0), atol=1e-12)
    np.testing.assert_allclose(found.deviation, pixels.std(0), atol=1e-12)
    assert json.loads(json.dumps(found.to_dict()))["images"] == 4
    assert "Inactive" in found.to_html()


def test_statistics_of_sixteen_bits_are_shares_of_white(tmp_path, table):
    values = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "b.png")
    found = statistics(open_dataset(table("file,label\na.png,x\nb.png,y\n")))
    assert found.mean == pytest.approx((values.mean() / 65535,) * 3)
    assert found.modes == {"PNG I;16": 2}


def test_statistics_of_boxes(draw, table):
    draw("a.png", (20, 10))
    draw("b.png", (20, 10))
    text = "filename,class,x1,y1,x2,y2\na.png,dent,0,0,10,10\na.png,dent,0,0,2,1\nb.png,,,,,\n"
    found = statistics(open_dataset(table(text)), pixels=False)
    assert found.objects_an_image == (0, 1.0, 2)
    assert found.labels[0].objects == 2
    assert found.object_share[1] == pytest.approx((0.5 + 0.01) / 2)
    assert found.mean is None


def test_a_preview_shows_every_label(tmp_path):
    synthesize("panels", tmp_path / "set", task="detection", format="coco", count=30, size=64)
    dataset = open_dataset(tmp_path / "set")
    grid = preview(dataset, count=6, columns=3, tile=100)
    assert grid.size[0] > 300
    assert grid.size[1] > 200
    assert len({tuple(p) for p in np.asarray(grid).reshape(-1, 3)}) > 100
    with pytest.raises(BadInput, match="nothing would be seen"):
        preview(dataset, count=0)


def test_sets_are_merged_by_the_names_of_their_labels(draw, tmp_path):
    for name in ("one/dent/1.png", "one/fine/2.png", "two/dents/1.png", "two/rust/3.png", "two/fine/2.png"):
        draw(name)
    one, two = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "two")
    merged = merge_datasets([one, two], {"dents": "dent"})
    assert merged.labels.names == ("dent", "fine", "rust")
    assert [(s.id, s.ground_truth.label_names[0]) for s in merged] == [
        ("one/dent/1.png", "dent"),
        ("one/fine/2.png", "fine"),
        ("two/dents/1.png", "dent"),
        ("two/fine/2.png", "fine"),
        ("two/rust/3.png", "rust"),
    ]
    with pytest.raises(UnknownName, match="did you mean 'rust'"):
        merge_datasets([one, two], {"rusty": "dent"})
    with pytest.raises(BadInput, match="only label"):
        merge_datasets([one, two], {"rust": None})


def test_a_map_drops_objects_and_keeps_masks_beside_their_boxes(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        synthesize(
            "panels", tmp_path / name, task="segmentation", format="coco", count=12, size=64, seed=seed
        )
    one, two = (open_dataset(tmp_path / n) for n in ("one", "two"))
    merged = merge_datasets([one, two], {"dent": None, "chip": "scratch"})
    assert merged.labels.names == ("scratch",)
    for before, after in zip([*one, *two], merged, strict=True):
        kept = [i for i, n in enumerate(before.ground_truth.label_names) if n != "dent"]
        np.testing.assert_array_equal(after.ground_truth.boxes_xyxy, before.ground_truth.boxes_xyxy[kept])
        assert [m.area for m in after.ground_truth.masks] == [before.ground_truth.masks[i].area for i in kept]


def test_sets_of_different_tasks_are_not_merged(draw, tmp_path, labelled):
    draw("folders/x/1.png")
    draw("folders/y/2.png")
    with pytest.raises(WrongTask, match="different tasks"):
        merge_datasets([open_dataset(tmp_path / "folders"), open_dataset(labelled)])
    with pytest.raises(BadInput, match="two data sets"):
        merge_datasets([open_dataset(labelled)])


@pytest.mark.parametrize(
    ("text", "says"), [("- a\n- b\n", "no map"), ("a: [", "no valid YAML"), (None, "cannot be read")]
)
def test_a_bad_map_is_one_sentence(tmp_path, text, says):
    path = tmp_path / "map.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=says):
        read_map(path)


@pytest.mark.parametrize("kind", ["cells", "panels"])
@pytest.mark.parametrize(
    ("task", "form"),
    [
        ("classification", "folders"),
        ("classification", "csv"),
        ("multilabel", "csv"),
        ("localization", "csv"),
        ("localization", "coco"),
        ("detection", "csv"),
        ("detection", "voc"),
        ("detection", "yolo"),
        ("segmentation", "coco"),
        ("segmentation", "voc"),
        ("segmentation", "yolo"),
    ],
)
def test_every_task_is_drawn_in_every_format_that_holds_it(tmp_path, kind, task, form):
    synthesize(kind, tmp_path / "set", task=task, format=form, count=8, size=48, seed=3)
    found = open_dataset(tmp_path / "set", task=task, minimum_labels=1)
    assert (found.task, found.format, len(found)) == (Task(task), form, 8)
    errors = [f.sentence() for f in check(tmp_path / "set", task=task).errors]
    assert errors == []


def test_vehicles_are_six_folders(tmp_path):
    synthesize("vehicles", tmp_path / "set", count=12, size=48)
    assert sorted(p.name for p in (tmp_path / "set").iterdir() if p.is_dir()) == [
        f"{side}_{state}" for side in "FR" for state in ("Breakage", "Crushed", "Normal")
    ]
    assert len(open_dataset(tmp_path / "set")) == 12


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"kind": "cars"}, UnknownName, "cells, panels"),
        ({"kind": "vehicles", "task": "detection"}, BadInput, "for classification"),
        ({"kind": "cells", "size": 4}, BadInput, "32 to 4096"),
        ({"kind": "panels", "bits": 16}, BadInput, "16 bits"),
        ({"kind": "panels", "task": "regression"}, UnknownName, "task"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, options, error, says):
    with pytest.raises(error, match=says):
        synthesize(output=tmp_path / "set", **options)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_verbs_of_the_command_line(labelled, tmp_path, outside):
    checked = run("check", labelled, "--json", "--fast")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["images"] == 4
    assert json.loads(run("stats", labelled, "--json").stdout)["task"] == "multilabel"
    assert "Crack" in run("stats", labelled, "--html", tmp_path / "s.html").stdout
    assert (tmp_path / "s.html").read_text().startswith("<!doctype html>")
    assert run("preview", labelled, "-o", tmp_path / "p.png", "--count", 2, "--split", "val").exit_code == 0
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 600
    divided = run("split", labelled, "-o", outside / "divided", "--fractions", "train=0.5,test=0.5", "--json")
    assert json.loads(divided.stdout)["losses"] == []
    assert open_dataset(outside / "divided").splits == {"train": 2, "test": 2}
    merged = run("merge", outside / "divided", labelled, "-o", outside / "merged", "--link")
    assert merged.stdout.startswith("8 images as csv")
    drawn = run("synthesize", "panels", "-o", tmp_path / "panels", "--count", 4, "--size", 48)
    assert drawn.exit_code == 0
    converted = run("convert", tmp_path / "panels", "--to", "yolo", "-o", tmp_path / "yolo")
    assert "not kept" in converted.stdout


def test_a_check_with_errors_exits_with_1_and_its_fix_with_0(labelled, tmp_path, outside):
    (tmp_path / "d.png").write_bytes(b"")
    found = run("check", labelled)
    assert found.exit_code == 1
    assert "error: empty-file (1)" in found.stdout
    fixed = run("check", labelled, "--fix", "-o", outside / "fixed")
    assert fixed.exit_code == 0
    assert len(open_dataset(outside / "fixed")) == 3


def test_what_is_said_of_columns_counts_for_the_fix_too(draw, outside, table):
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
    ("arguments", "says"),
    [
        (("check", ".", "--fix"), "--output"),
        (("split", ".", "-o", "../x", "--fractions", "train:1"), "SPLIT=SHARE"),
        (("stats", ".", "--column", "label"), "ROLE=NAME"),
        (("preview", ".", "-o", "grid.pdf.txt"), "picture is written as"),
        (("check", ".", "--task", "guess"), "unknown task"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(labelled, monkeypatch, arguments, says):
    monkeypatch.chdir(labelled.parent)
    result = run(*arguments)
    assert isinstance(result.exception, BadInput)
    assert says in str(result.exception)


def test_a_label_may_look_like_markup_and_a_set_may_hold_none(draw, tmp_path):
    draw("a.png", (30, 20))
    page = {"images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}], "annotations": []}
    for categories, shown in (([{"id": 1, "name": "[/bold]"}], "[/bold]"), ([], "images")):
        (tmp_path / "annotations.json").write_text(json.dumps({**page, "categories": categories}))
        result = run("stats", tmp_path)
        assert result.exit_code == 0, result.exception
        assert shown in result.output


def test_what_no_reader_foresaw_names_the_set(labelled, monkeypatch):
    def surprised(self, path, reading):
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr(type(get_format("csv").implementation), "read", surprised)
    with pytest.raises(BadDataset, match=r"cannot be read as csv.*too large"):
        open_dataset(labelled, format="csv")


def test_a_check_says_what_the_reader_passed_over(draw, tmp_path):
    for split in ("train", "val"):
        for label in ("dent", "fine"):
            draw(f"{split}/{label}/{split}-{label}.png")
    draw("extra/crack/z.png")
    result = run("check", tmp_path)
    assert "'extra'" in result.stderr
    assert json.loads(run("check", tmp_path, "--json", "--fast").stdout)["notes"]


def test_questions_that_cannot_be_answered_exit_with_2(labelled, tmp_path):
    assert run("check", tmp_path / "nowhere").exit_code == 2
    assert run("check", labelled, "--format", "foo").exit_code == 2
    for options in (("--box-order", "foo"), ("-o", tmp_path / "out")):
        assert isinstance(run("check", labelled, *options).exception, BadInput)


def test_a_refused_conversion_leaves_nothing(draw, table, outside):
    for name in ("a.png", "b.png"):
        draw(name)
    path = table("file,label\na.png,dent\nb.png,w/x\n")
    for _ in range(2):  # the second must not find what the first left
        result = run("convert", path, "--to", "folders", "-o", outside / "out")
        assert "name of a folder" in str(result.exception)
    assert not (outside / "out").exists()


def test_a_name_that_is_no_text_is_one_sentence(draw, tmp_path):
    draw("set/dent/a.png")
    draw("set/rust/b.png")
    dataset = open_dataset(tmp_path / "set")
    odd = replace(dataset, samples=(replace(dataset[0], group="\udcff"), dataset[1]))
    with pytest.raises(BadInput, match="cannot be written as text"):
        write_dataset(odd, tmp_path / "out", "csv")
    assert not (tmp_path / "out").exists()


def test_groups_that_a_merge_keeps_apart_are_told(draw, tmp_path):
    for label in ("dent", "rust"):
        draw(f"set/{label}/{label}.png")
    dataset = open_dataset(tmp_path / "set")
    one = replace(dataset, samples=tuple(replace(s, group="car1") for s in dataset))
    assert "'car1'" in merge_datasets([one, one]).notes[-1]
    assert "merged" in merge_datasets([dataset, dataset]).notes[-1]


@pytest.mark.parametrize(
    "verb",
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
def test_a_copy_inside_its_source_is_refused_before_anything_is_written(draw, tmp_path, monkeypatch, verb):
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
        result = run(*verb, "--output", inside)
        assert isinstance(result.exception, BadInput)  # which the command line ends with exit code 2
        assert "it lies inside" in str(result.exception)
    assert sorted(tmp_path.rglob("*")) == before
    assert run(*verb, "--output", "settled/out").exit_code == 0  # beside it, with a name that begins alike


def test_what_a_conversion_copies_broken_is_told(draw, tmp_path):
    for name in ("dent/a.png", "dent/b.png", "rust/c.png", "rust/d.jpg"):
        draw(f"set/{name}")
    (tmp_path / "set/dent/b.png").write_bytes(b"")
    whole = (tmp_path / "set/rust/d.jpg").read_bytes()
    (tmp_path / "set/rust/d.jpg").write_bytes(whole[: len(whole) // 2])
    told = run("convert", tmp_path / "set", "--to", "csv", "-o", tmp_path / "out")
    assert told.exit_code == 0
    assert "2 images are broken and were copied as they are: dent/b.png, rust/d.jpg" in told.stderr
    as_json = run("convert", tmp_path / "set", "--to", "csv", "-o", tmp_path / "again", "--json")
    assert json.loads(as_json.stdout)["damaged"] == ["dent/b.png", "rust/d.jpg"]


@pytest.mark.parametrize("form", ["csv", "coco", "folders", "yolo", "voc"])
def test_no_format_is_written_with_a_split_that_no_reader_knows(tmp_path, form):
    task = "classification" if form == "folders" else "detection"
    drawn = synthesize("panels", tmp_path / "set", task=task, count=4, size=48)
    dataset = open_dataset(drawn.root, minimum_labels=1)
    odd = replace(dataset, samples=tuple(replace(s, split="extra") for s in dataset))
    with pytest.raises(UnknownName, match="unknown split 'extra'"):
        write_dataset(odd, tmp_path / "out", form)
