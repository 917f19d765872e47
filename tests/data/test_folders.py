"""Folders of labels."""

import pytest

from blemish.data import open_dataset
from blemish.errors import BadDataset
from blemish.structures import Task


def test_folder_names_are_labels_with_titles(draw, tmp_path):
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
def test_split_folders_above_the_labels(draw, tmp_path, names):
    for split in names:
        for label in ("good", "bad"):
            draw(f"{split}/{label}/{split}.png")
    found = open_dataset(tmp_path)
    assert found.labels.names == ("bad", "good")
    assert found.splits == {"train": 2, "val": 2, "test": 2}
    assert {s.id.split("/")[0] for s in found.of_split("val")} == {names[1]}


def test_an_unpacked_archive_s_own_folder_is_passed(draw, tmp_path):
    draw("archive/cars/dent/a.png")
    draw("archive/cars/fine/b.png")
    assert open_dataset(tmp_path / "archive").labels.names == ("dent", "fine")


def test_a_label_of_one_split_only_keeps_its_place_everywhere(draw, tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "test/b/3.png"):
        draw(name)
    found = open_dataset(tmp_path)
    assert found.of_split("test")[0].ground_truth.label_index.tolist() == [1]


def test_images_beside_the_label_folders_are_noted(draw, tmp_path):
    for name in ("a/1.png", "b/2.png", "stray.png"):
        draw(name)
    found = open_dataset(tmp_path)
    assert len(found) == 2
    assert any("1 images" in n and "no label" in n for n in found.notes)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "the folder is empty"),
        (["only.png"], "images and no labels"),
        (["dent/a.png"], "the only label is 'dent'"),
        (["train/a/1.png", "training/a/2.png"], "both mean train"),
    ],
)
def test_what_is_no_set_is_one_sentence(draw, tmp_path, files, says):
    root = tmp_path / "set"
    root.mkdir()
    for f in files:
        draw(f"set/{f}")
    with pytest.raises(BadDataset, match=says) as caught:
        open_dataset(root)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(BadDataset, match="no such file or folder"):
        open_dataset(tmp_path / "nowhere")


def test_one_label_is_fine_where_the_caller_says_so(draw, tmp_path):
    draw("dent/a.png")
    assert len(open_dataset(tmp_path, minimum_labels=1)) == 1
