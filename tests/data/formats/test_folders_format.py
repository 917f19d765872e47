"""blemish.data.formats.folders_format: one folder per label, and data sets that cannot be recognized."""

import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.write_dataset import write_dataset
from blemish.structures import Task
from blemish.testing import raises


def test_folder_names_are_labels_with_display_names(draw, tmp_path):
    for name in ("F_Crushed/b.jpg", "F_Crushed/a.png", "R_Normal/deep/c.bmp", "R_Normal/notes.txt.png"):
        draw(f"set/{name}")
    (tmp_path / "set/R_Normal/readme.md").write_text("no image")
    (tmp_path / "set/.hidden").mkdir()
    found = open_dataset(tmp_path / "set")
    assert found.task is Task.CLASSIFICATION
    assert found.format == "folders"
    assert found.labels.names == ("F_Crushed", "R_Normal")
    assert found.labels.display_names == ("Front Crushed", "Rear Normal")
    ids = [s.id for s in found]
    assert ids == ["F_Crushed/a.png", "F_Crushed/b.jpg", "R_Normal/deep/c.bmp", "R_Normal/notes.txt.png"]
    assert [s.ground_truth.label_names for s in found] == [("F_Crushed",)] * 2 + [("R_Normal",)] * 2
    assert found.splits == {}


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "testing"), ("train", "valid", "test")]
)
def test_folders_of_splits(draw, tmp_path, names):
    for split in names:
        for label in ("good", "bad"):
            draw(f"{split}/{label}/{split}.png")
    found = open_dataset(tmp_path)
    assert found.labels.names == ("bad", "good")
    assert found.splits == {"train": 2, "val": 2, "test": 2}
    assert {s.id.split("/")[0] for s in found.of_split("val")} == {names[1]}


def test_folder_of_an_extracted_archive_is_skipped(draw, tmp_path):
    draw("archive/cars/dent/a.png")
    draw("archive/cars/fine/b.png")
    assert open_dataset(tmp_path / "archive").labels.names == ("dent", "fine")


def test_label_of_one_split_has_the_same_index_in_all(draw, tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "test/b/3.png"):
        draw(name)
    found = open_dataset(tmp_path)
    assert found.of_split("test")[0].ground_truth.label_index.tolist() == [1]


def test_folder_next_to_split_folders_is_noted(draw, tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "extra/a/3.png"):
        draw(name)
    found = open_dataset(tmp_path)
    assert found.splits == {"train": 2}
    assert any("'extra'" in n for n in found.notes)


def test_images_in_no_label_folder_are_noted(draw, tmp_path):
    for name in ("a/1.png", "b/2.png", "stray.png"):
        draw(name)
    found = open_dataset(tmp_path)
    assert len(found) == 2
    assert any(n.startswith("1 images") and str(tmp_path) in n for n in found.notes)


@pytest.mark.parametrize(
    ("files", "code", "fact"),
    [
        ([], "empty-folder", "set"),
        (["only.png"], "no-labels", "set"),
        (["dent/a.png"], "too-few-labels", "'dent'"),
        (["train/a/1.png", "training/a/2.png"], "repeated-split", "train and training"),
    ],
)
def test_invalid_folders_are_one_sentence(draw, tmp_path, files, code, fact):
    root = tmp_path / "set"
    root.mkdir()
    for f in files:
        draw(f"set/{f}")
    with raises(f"bad-dataset.{code}", root, fact) as caught:
        open_dataset(root)
    assert "\n" not in caught.message


def test_missing_path_is_an_error(tmp_path):
    with raises("bad-dataset.no-such-file", "nowhere"):
        open_dataset(tmp_path / "nowhere")


def test_minimum_labels_can_be_one(draw, tmp_path):
    draw("dent/a.png")
    assert len(open_dataset(tmp_path, minimum_labels=1)) == 1


@pytest.mark.parametrize(
    "folders",
    [
        ("images", "masks"),
        ("Images", "Annotations"),
        ("train_img", "train_lab", "test_img", "test_lab"),
        ("image_2", "label_2"),
        ("train", "val"),
        ("training", "testing"),
        ("img", "gt"),
        ("ds0", "ds1"),
        ("trainA", "trainB"),
        ("imagesTr", "labelsTr"),
        ("dent", "scratch", "masks"),
        ("train/images", "val/images"),
        ("ds0/img", "ds0/ann", "ds1/img", "ds1/ann"),
        ("car/train", "car/val", "van/train", "van/val"),
    ],
)
def test_folder_names_of_a_layout_are_never_labels(draw, tmp_path, folders):
    for number, folder in enumerate(folders):
        draw(f"{folder}/{number}.jpg")
    with raises("bad-dataset.folders-not-labels", str(tmp_path), folders[0].split("/")[-1]):
        open_dataset(tmp_path)
    assert check(tmp_path).errors


def test_format_folders_reads_any_folder_name_as_label(draw, tmp_path, outside):
    for folder in ("images", "masks"):
        draw(f"{folder}/a.png")
    found = open_dataset(tmp_path, format="folders")
    assert found.labels.names == ("images", "masks")
    written = write_dataset(found, outside / "copy", "folders")
    assert [loss for loss in written.losses if loss.code == "label-layout-name"]


@pytest.mark.parametrize("names", [("label_0", "label_1"), ("0", "1"), ("raw", "ripe"), ("drawing", "photo")])
def test_plausible_folder_names_are_labels(draw, tmp_path, names):
    for name in names:
        draw(f"{name}/a.png")
    assert open_dataset(tmp_path).labels.names == names


def test_folders_of_programs_are_left_out_with_a_note(draw, tmp_path):
    for name in ("dent/a.png", "scratch/b.png", "__pycache__/c.png", ".ipynb_checkpoints/d.png"):
        draw(name)
    found = open_dataset(tmp_path)
    assert found.labels.names == ("dent", "scratch")
    assert len(found) == 2
    assert [n for n in found.notes if "1 images in __pycache__" in n]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dent/a.txt", "3 lines of another tool"),
        ("dent/regions.json", '{"regions": {"a.png": [1, 2]}}'),
        ("tracks.jsonl", '{"frame": "scratch/b.png"}'),
    ],
)
def test_annotations_in_no_known_format_are_named(draw, tmp_path, name, text):
    draw("dent/a.png")
    draw("scratch/b.png")
    (tmp_path / name).write_text(text)
    with raises("bad-dataset.unread-annotations", name):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, format="folders").labels.names == ("dent", "scratch")


@pytest.mark.parametrize("name", ["readme.txt", "README.roboflow.txt", "LICENSE.txt", "camera.json"])
def test_other_texts_next_to_label_folders_are_not_annotations(draw, tmp_path, name):
    draw("dent/a.png")
    draw("scratch/b.png")
    (tmp_path / name).write_text("two labels, photographed in 2024")
    assert open_dataset(tmp_path).labels.names == ("dent", "scratch")


def test_data_set_inside_a_folder_is_named(draw, tmp_path):
    for name in ("Cars/train/dent/a.png", "Cars/train/ok/b.png", "docs/notes.png"):
        draw(name)
    with raises("bad-dataset.folders-not-labels", "'train'", "Cars/train/dent"):
        open_dataset(tmp_path)
    (tmp_path / "docs/notes.png").rename(tmp_path / "docs/notes.txt")
    with raises("bad-dataset.nested-data-set", "'Cars'"):
        open_dataset(tmp_path)


def test_several_data_sets_are_named(draw, tmp_path):
    for name in ("one", "two"):
        for label in ("dent", "ok"):
            draw(f"{name}/training/{label}/a.png")
    with raises("bad-dataset.several-data-sets", "'one'", "'two'", "merge"):
        open_dataset(tmp_path)


def test_check_reports_too_few_labels_as_training_does(draw, table, tmp_path):
    draw("dent/a.png")
    assert check(tmp_path / "dent").of("unreadable-set")
    assert len(check(tmp_path).of("too-few-labels")) == 1
    assert "too-few-labels" in {f.code for f in check(tmp_path).errors}


def test_labels_named_like_splits_are_an_error(draw, table):
    for name in ("a.png", "b.png"):
        draw(name)
    path = table("filename,label\na.png,train\nb.png,val\n")
    with raises("bad-dataset.labels-are-splits", "train, val", "--column"):
        open_dataset(path)
    assert len(check(path).of("labels-are-splits")) == 1
    assert open_dataset(path, columns={"label": "label"}).labels.names == ("train", "val")


def test_label_files_of_a_second_format_are_reported(draw, tmp_path):
    draw("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "classes.txt").write_text("dent\n")
    (tmp_path / "images/a.json").write_text('{"shapes": [], "flags": {"ok": true}, "imagePath": "a.png"}')
    found = open_dataset(tmp_path)
    assert found.format == "yolo"
    assert any("labelme" in n for n in found.notes)
    assert len(check(tmp_path).of("other-format")) == 1
    assert not check(tmp_path, format="yolo").of("other-format")
