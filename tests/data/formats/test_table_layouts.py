"""Tables of several tools: one per split folder, names without extension, run lengths, OpenImages."""

import numpy as np
import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.geometry import mask_to_array
from blemish.structures import Task
from blemish.testing import raises


@pytest.fixture
def write(tmp_path):
    """A function that writes a text file below the test's folder."""

    def one(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return one


@pytest.mark.parametrize("name", ["_classes.csv", "labels.csv"])
def test_one_table_in_each_split_folder(draw, write, tmp_path, name):
    for split in ("train", "valid", "test"):
        draw(f"{split}/a.png")
        write(f"{split}/{name}", "filename, crack, dent\na.png, 0, 1\n")
    found = open_dataset(tmp_path)
    assert (found.format, found.task, found.labels.names) == ("csv", Task.MULTILABEL, ("crack", "dent"))
    assert found.splits == {"train": 1, "val": 1, "test": 1}
    assert sorted(s.id for s in found) == ["test/a.png", "train/a.png", "valid/a.png"]
    assert not any("another folder" in n for n in found.notes)


def test_tensorflow_tables_of_roboflow_are_boxes(draw, write, tmp_path):
    for split in ("train", "valid"):
        draw(f"{split}/a.png")
        header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
        write(f"{split}/_annotations.csv", header + "a.png,24,20,dent,1,2,9,8\na.png,24,20,rust,3,3,9,9\n")
    found = open_dataset(tmp_path)
    assert found.task is Task.DETECTION
    assert [s.ground_truth.boxes_xyxy.tolist() for s in found] == [[[1, 2, 9, 8], [3, 3, 9, 9]]] * 2


def test_two_tables_in_a_split_folder_are_ambiguous(draw, write, tmp_path):
    draw("train/a.png")
    for name in ("one", "two"):
        write(f"train/{name}.csv", "filename,label\na.png,dent\n")
    with raises("bad-dataset.ambiguous-files", "one.csv, two.csv"):
        open_dataset(tmp_path)


def test_split_in_the_names_of_tables(draw, write, tmp_path):
    for name in ("a", "b"):
        draw(f"images/{name}.png")
    write("train_labels.csv", "filename,label\na.png,dent\n")
    write("test_labels.csv", "filename,label\nb.png,rust\n")
    found = open_dataset(tmp_path)
    assert found.splits == {"train": 1, "test": 1}
    assert any("2 images were found by their file names" in n and "in images" in n for n in found.notes)


def test_table_without_the_name_of_a_split_is_noted(draw, write, tmp_path):
    for name in ("a", "b"):
        draw(f"{name}.png")
    write("train.csv", "filename,label\na.png,dent\n")
    write("test.csv", "filename,label\nb.png,rust\n")
    write("sample_submission.csv", "filename,label\nb.png,dent\n")
    assert any("sample_submission.csv" in n for n in open_dataset(tmp_path).notes)


def test_paths_with_another_folder(draw, write, tmp_path):
    for name in ("0", "1"):
        draw(f"image_224X224/{name}.jpeg")
    path = write("labels.csv", "filename,label\nimage/0.jpeg,dent\nimage/1.jpeg,rust\n")
    found = open_dataset(path)
    assert len(found) == 2
    assert any("another folder" in n and "image_224X224" in n for n in found.notes)
    draw("other/0.jpeg")
    with raises("bad-dataset.missing-image", "'image/0.jpeg'", "--images"):
        open_dataset(path)
    assert len(open_dataset(path, images=tmp_path / "image_224X224")) == 2


def test_names_without_extension(draw, write, tmp_path):
    draw("images/a.png")
    draw("images/b.jpg")
    path = write("train.csv", "image_id,label\na,dent\nb,rust\n")
    found = open_dataset(tmp_path)
    assert [s.path.name for s in found] == ["a.png", "b.jpg"]
    assert any("2 names without extension" in n for n in found.notes)
    draw("images/b.png")
    with raises("bad-dataset.missing-image", "'b'"):
        open_dataset(path)


def test_column_classes_with_one_word_is_classification(draw, write):
    for name in ("a", "b"):
        draw(f"{name}.png")
    path = write("labels.csv", "filename,classes\na.png,dent\nb.png,rust\n")
    found = open_dataset(path)
    assert found.task is Task.CLASSIFICATION
    assert any("'classes'" in n for n in found.notes)
    assert open_dataset(path, task="multilabel").task is Task.MULTILABEL
    write("labels.csv", "filename,classes\na.png,dent|rust\nb.png,rust\n")
    assert open_dataset(path).task is Task.MULTILABEL
    write("labels.csv", "filename,labels\na.png,dent\nb.png,rust\n")
    assert open_dataset(path).task is Task.MULTILABEL


OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf\n"
    "a,xclick,/m/01,1,0.25,0.5,0.1,0.9,0,0,0\n"
    "a,xclick,/m/02,1,0,1,0,0.5,0,0,1\n"
)


def test_open_images(draw, write, tmp_path):
    draw("a.png")
    write("boxes.csv", OPEN_IMAGES)
    found = open_dataset(tmp_path)
    ground_truth = found[0].ground_truth
    assert np.allclose(ground_truth.boxes_xyxy, [[6, 2, 12, 18], [0, 0, 24, 10]])
    assert ground_truth.crowd.tolist() == [False, True]
    assert found.labels.names == ("/m/01", "/m/02")
    write("class-descriptions-boxable.csv", "/m/01,Door\n/m/02,Hood\n/m/03,Wheel\n")
    assert open_dataset(tmp_path).labels.names == ("Door", "Hood")


def encode(mask):
    """Return the run lengths of Kaggle: start and length, from 1, column by column."""
    flat = np.concatenate([[0], mask.flatten(order="F"), [0]])
    runs = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs[1::2] -= runs[::2]
    return " ".join(map(str, runs.tolist()))


def test_run_lengths_are_masks(draw, write, tmp_path):
    for name in ("a", "b", "c"):
        draw(f"{name}.png")
    first, second = np.zeros((2, 20, 24), bool)
    first[3:7, 5:9] = second[10:, 20:] = True
    lines = f"a.png,1,{encode(first)}\na.png,4,{encode(second)}\nb.png,1,\n"
    write("train.csv", "ImageId,ClassId,EncodedPixels\n" + lines)
    found = open_dataset(tmp_path)
    assert (found.task, found.labels.names) == (Task.SEGMENTATION, ("1", "4"))
    assert [len(s.ground_truth) for s in found] == [2, 0]
    masks = [mask_to_array(m) for m in found[0].ground_truth.masks]
    assert (masks[0] == first).all() and (masks[1] == second).all()
    assert any("from 1, column by column" in n for n in found.notes)


def test_image_and_class_in_one_cell(draw, write, tmp_path):
    draw("a_1.png")
    mask = np.ones((20, 24), bool)
    write("train.csv", f"ImageId_ClassId,EncodedPixels\na_1.png_2,{encode(mask)}\na_1.png_3,\n")
    found = open_dataset(tmp_path)
    assert found[0].ground_truth.label_names == ("2",)
    assert found.labels.names == ("2", "3")


@pytest.mark.parametrize("runs", ["0 5", "1 481", "470 20", "1", "1 2 3", "1 -2", "x"])
def test_invalid_run_lengths_are_reported_with_their_line(draw, write, tmp_path, runs):
    draw("a.png")
    draw("b.png")
    write("train.csv", f"ImageId,EncodedPixels\na.png,1 3\nb.png,{runs}\n")
    with raises("bad-dataset.bad-run-lengths", "train.csv:3"):
        open_dataset(tmp_path)
    assert len(check(tmp_path, duplicates=False).of("bad-run-lengths")) == 1
