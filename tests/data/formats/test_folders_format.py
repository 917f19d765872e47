"""blemish.data.formats.folders_format: one folder per label, and data sets that cannot be recognized."""

import pytest

from blemish.data import open_dataset
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
