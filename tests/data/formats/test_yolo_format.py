"""blemish.data.formats.yolo_format: YOLO data sets of several tools, and their faults."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.formats import WritableFormat, get_format
from blemish.data.merge import read_label_map
from blemish.data.write_context import WriteContext
from blemish.structures import Labels, Task
from blemish.testing import raises

LINE = "1 .5 .5 .25 .5\n"


@pytest.fixture
def tree(draw, tmp_path):
    """A function that writes images with label files and returns their folder."""

    def one(*names):
        (tmp_path / "labels").mkdir()
        for name in names:
            draw(f"images/{name}.png")
            (tmp_path / f"labels/{name}.txt").write_text(LINE)
        return tmp_path

    return one


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_data_yaml_is_read_in_the_encodings_of_editors(tree, encoding):
    root = tree("a")
    (root / "data.yaml").write_text("names: [dent, rust]\ntrain: images\nnc: '2'\n", encoding)
    dataset = open_dataset(root)
    assert dataset.labels.names == ("dent", "rust")
    assert not any("nc" in n for n in dataset.notes)


@pytest.mark.parametrize(
    ("name", "content", "code", "facts"),
    [
        (
            "data.yaml",
            "train: images\nnames: [a, Stoß]".encode("latin-1"),
            "encoding",
            ("data.yaml:2",),
        ),
        ("data.yaml", b"train: images\nnames: [2020-13-45]\n", "invalid-yaml", ("data.yaml",)),
        ("data.yaml", b"train: images\nnames: " + b"[" * 3000 + b"]" * 3000, "invalid-yaml", ("nested",)),
        ("classes.txt", "Stoß\nrust\n".encode("latin-1"), "encoding", ("classes.txt:1",)),
        ("classes.txt", b"dent\n\nrust\n", "label-names", ("classes.txt", "index 1")),
        ("classes.txt", b"dent\ndent\n", "label-names", ("classes.txt", "'dent'")),
    ],
)
def test_invalid_names_are_an_error_with_their_file(tree, name, content, code, facts):
    root = tree("a")
    (root / name).write_bytes(content)
    with raises(f"bad-dataset.{code}", *facts):
        open_dataset(root)
    assert check(root).errors


def test_list_in_another_encoding_is_an_error_with_its_line(tree):
    root = tree("a")
    (root / "data.yaml").write_text("train: t.txt\nnames: [dent, rust]\n")
    (root / "t.txt").write_bytes("images/a.png\nimages/Stoß.png\n".encode("latin-1"))
    with raises("bad-dataset.encoding", "t.txt:2"):
        open_dataset(root)


def test_unlisted_images_and_orphaned_label_files_are_reported(tree):
    root = tree("a", "b", "c")
    (root / "images/c.png").unlink()
    (root / "data.yaml").write_text("train: t.txt\nnames: [dent, rust]\n")
    (root / "t.txt").write_text("images/a.png\n")
    found = check(root, duplicates=False)
    assert [f.path for f in found.of("image-not-listed")] == [root / "images/b.png"]
    assert [f.path for f in found.of("label-without-image")] == [root / "labels/c.txt"]
    assert not found.of("image-without-label")


def test_write_reports_a_label_with_a_line_break(tree, tmp_path):
    root = tree("a")
    (root / "classes.txt").write_text("dent\nrust\n")
    dataset = open_dataset(root)
    labels = Labels(("a\nb", "rust"), ("A", "Rust"))
    sample = replace(dataset[0], ground_truth=replace(dataset[0].ground_truth, labels=labels))
    context = WriteContext()
    cast("WritableFormat", get_format("yolo").implementation).write(
        replace(dataset, labels=labels, samples=(sample,)), tmp_path / "out", context
    )
    assert any(code == "label-line-break" for code, _ in context.lost)
    assert open_dataset(tmp_path / "out").labels.names == ("a b", "rust")


@pytest.mark.parametrize("text", ["d: 2020-13-45", "d: " + "[" * 3000])
def test_read_label_map_rejects_invalid_yaml(tmp_path, text):
    (tmp_path / "map.yaml").write_text(text)
    with raises("bad-input.label-map", "map.yaml"):
        read_label_map(tmp_path / "map.yaml")


YAMLS = {
    "ultralytics": (("path: {root}\ntrain: images/train\nval: images/val\nnames:\n  0: dent\n  1:"
        " rust\n"), "images/{}"),
    "elsewhere": (("path: ../datasets/gone\ntrain: images/train\nval: images/val\nnames: [dent,"
        " rust]\n"), "images/{}"),
    "roboflow": (("train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames:"
        " [dent, rust]\n"), "{}/images"),
    "darknet": ("train: train.txt\nval: val.txt\nnames: [dent, rust]\n", "images/{}"),
    "tree": (None, "images/{}"),
    "split tree": (None, "{}/images"),
}  # fmt: skip


@pytest.mark.parametrize("kind", YAMLS)
def test_read_every_usual_layout(draw, tmp_path, kind):
    text, place = YAMLS[kind]
    for split in ("train", "val"):
        folder = place.format("valid" if split == "val" and "{}/" in place else split)
        draw(f"{folder}/{split}.png", (24, 20))
        labels = tmp_path / folder.replace("images", "labels")
        labels.mkdir(parents=True, exist_ok=True)
        (labels / f"{split}.txt").write_text(LINE)
        (tmp_path / f"{split}.txt").write_text(f"./{folder}/{split}.png\n")
    if text is None:
        (tmp_path / "classes.txt").write_text("dent\nrust\n")
    else:
        (tmp_path / "data.yaml").write_text(text.format(root=tmp_path))
    dataset = open_dataset(tmp_path)
    assert dataset.format == "yolo"
    assert dataset.labels.names == ("dent", "rust")
    assert dataset.splits == {"train": 1, "val": 1}
    for sample in dataset:
        assert sample.ground_truth.label_names == ("rust",)
        np.testing.assert_allclose(sample.ground_truth.boxes_xyxy, [[9, 5, 15, 15]])


def test_images_of_train_and_val_in_one_folder_are_train(draw, tmp_path):
    draw("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(LINE)
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [dent, rust]\n")
    dataset = open_dataset(tmp_path)
    assert dataset.splits == {"train": 1}
    assert any("1 images in both val and train" in n for n in dataset.notes)


@pytest.mark.parametrize(
    ("yaml", "line", "code", "fact"),
    [
        ("names: [dent\n", LINE, "unknown-format", "data.yaml"),
        ("train: images\nnames: {0: dent, 2: rust}\n", LINE, "label-names", "[0, 2]"),
        ("train: images\nnames: [dent, dent]\n", LINE, "label-names", "'dent'"),
        (
            "train: nowhere\nnames: [dent, rust]\n",
            LINE,
            "no-image-folder",
            "train: no such folder",
        ),
        ("path: .\nnames: [dent, rust]\n", LINE, "missing-key", "train:"),
        ("train: images\nnames: [dent, rust]\n", "2 .5 .5 .1 .1\n", "unknown-label", "a.txt:1"),
        ("train: images\nnames: [dent, rust]\n", LINE + "0 .5 .5\n", "bad-line", "a.txt:2"),
    ],
)
def test_fault_is_one_sentence_with_its_place(draw, tmp_path, yaml, line, code, fact):
    draw("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(line)
    (tmp_path / "data.yaml").write_text(yaml)
    with raises(f"bad-dataset.{code}", fact) as caught:
        open_dataset(tmp_path / "data.yaml")
    assert "\n" not in caught.message


def test_image_without_a_label_file_has_no_objects(draw, tmp_path):
    draw("images/a.png")
    draw("images/b.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(LINE)
    dataset = open_dataset(tmp_path)
    assert [len(s.ground_truth) for s in dataset] == [1, 0]
    assert dataset.labels.names == ("0", "1")


def test_large_label_index_is_rejected_without_allocating_labels(draw, tmp_path):
    draw("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("999999999999 .5 .5 .1 .1\n")
    with raises("bad-dataset.bad-line", "a.txt:1", "1e+12"):
        open_dataset(tmp_path)


def write_split(draw, root, split, images="images", labels="labels", name=None):
    """Write one image and its label file below a split folder."""
    name = name or split.replace("/", "_")
    draw(f"{split}/{images}/{name}.png")
    folder = root / split / labels
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(LINE)


@pytest.mark.parametrize(
    ("images", "labels"),
    [("Images", "Labels"), ("IMAGES", "LABELS"), ("Images", "labels"), ("images", "LABELS")],
)
def test_folders_in_any_letter_case(draw, tmp_path, images, labels):
    for split in ("Train", "Valid"):
        write_split(draw, tmp_path, split, images, labels)
    (tmp_path / "classes.txt").write_text("dent\nrust\n")
    found = open_dataset(tmp_path)
    assert found.format == "yolo"
    assert found.splits == {"train": 1, "val": 1}
    assert [s.ground_truth.label_names for s in found] == [("rust",)] * 2
    assert not check(tmp_path, duplicates=False).of("label-without-image")


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("", "cars-3/{}/images"),
        ("", r"C:\Users\me\cars\{}\images"),
        ("", "/content/cars/{}/images"),
        ("", "../{}/Images"),
        ("/content/cars", "{}/images"),
        (r"D:\sets\cars", r"{}\images"),
        ("../datasets/cars", "{}/images"),
    ],
)
def test_paths_of_another_machine_are_found_by_their_last_parts(draw, tmp_path, path, entry):
    for split in ("train", "valid"):
        write_split(draw, tmp_path, split)
    lines = [f"path: {path}"] * bool(path) + [
        f"train: {entry.format('train')}",
        f"val: {entry.format('valid')}",
    ]
    (tmp_path / "data.yaml").write_text("\n".join([*lines, "names: [dent, rust]"]))
    found = open_dataset(tmp_path)
    assert found.splits == {"train": 1, "val": 1}
    written = repr(path or entry.format("train"))
    assert any("does not exist" in n and written in n for n in found.notes)


def test_root_of_another_machine_is_tried_by_its_last_parts(draw, tmp_path):
    for split in ("cars/train", "cars/val"):
        write_split(draw, tmp_path, split)
    (tmp_path / "data.yaml").write_text(
        "path: /content/sets/cars\ntrain: train/images\nval: val/images\nnames: [dent, rust]\n"
    )
    found = open_dataset(tmp_path)
    assert found.splits == {"train": 1, "val": 1}
    assert found.root == tmp_path / "cars"


def test_last_part_does_not_stand_for_a_split(draw, tmp_path):
    write_split(draw, tmp_path, ".", name="a")
    (tmp_path / "data.yaml").write_text(
        "path: /content/cars\ntrain: train/images\nval: val/images\nnames: [dent, rust]\n"
    )
    with raises("bad-dataset.no-image-folder", "train/images", "path: '/content/cars'"):
        open_dataset(tmp_path)


def test_names_are_text_as_written(tree):
    root = tree("a")
    (root / "data.yaml").write_text("train: images\nnames: [no, yes, 010, 1_0, 1.0, 2024-01-01, 'on']\n")
    assert open_dataset(root).labels.names == ("no", "yes", "010", "1_0", "1.0", "2024-01-01", "on")
    (root / "data.yaml").write_text("train: images\nnames: {0: off, 1: 0x1F}\n")
    assert open_dataset(root).labels.names == ("off", "0x1F")


@pytest.mark.parametrize("place", ["labels", "images"])
def test_names_next_to_labels_or_images(tree, place):
    root = tree("a")
    (root / place / "classes.txt").write_text("dent\nrust\n")
    assert open_dataset(root).labels.names == ("dent", "rust")


def test_two_files_of_other_names_are_ambiguous(draw, tmp_path):
    for split in ("train", "val"):
        write_split(draw, tmp_path, split)
        (tmp_path / split / "labels/classes.txt").write_text("dent\nrust\n")
    assert open_dataset(tmp_path).labels.names == ("dent", "rust")
    (tmp_path / "val/labels/classes.txt").write_text("rust\ndent\n")
    with raises("bad-dataset.ambiguous-files", "classes.txt"):
        open_dataset(tmp_path)


def test_lists_of_darknet_are_splits(draw, tmp_path):
    for split in ("train", "valid"):
        draw(f"obj_{split}_data/{split}.png")
        (tmp_path / f"obj_{split}_data/{split}.txt").write_text(LINE)
        (tmp_path / f"{split}.txt").write_text(f"data/obj_{split}_data/{split}.png\n")
    (tmp_path / "obj.names").write_text("dent\nrust\n")
    (tmp_path / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\n")
    found = open_dataset(tmp_path)
    assert found.splits == {"train": 1, "val": 1}
    draw("obj_train_data/third.png")
    (tmp_path / "obj_train_data/third.txt").write_text(LINE)
    assert len(check(tmp_path, duplicates=False).of("image-not-listed")) == 1


POSE = "0 .5 .5 .4 .4 .4 .4 2 .6 .4 2 .6 .6 1 .4 .6 0\n"


def test_keypoints_after_boxes_are_left_out_with_a_note(tree):
    root = tree("a", "b")
    for name in ("a", "b"):
        (root / f"labels/{name}.txt").write_text(POSE)
    found = open_dataset(root)
    assert found.task is Task.DETECTION
    assert np.allclose(found[0].ground_truth.boxes_xyxy, [[24 * 0.3, 20 * 0.3, 24 * 0.7, 20 * 0.7]])
    assert any("keypoints" in n for n in found.notes)
    assert not check(root, duplicates=False).of("box-outside")


@pytest.mark.parametrize(
    "line",
    [
        "0 .1 .1 .9 .1 .9 .9 .1 .9 .05 .5\n",  # a polygon of five points
        "0 0 0 1 0 1 1 0 1 0 .5\n",  # along the border of the image
        "0 .1 .1 .9 .1 .9 .9 .1 .9\n",  # an oriented box
    ],
)
def test_polygons_are_not_keypoints(tree, line):
    root = tree("a")
    (root / "labels/a.txt").write_text(line)
    assert open_dataset(root).task is Task.SEGMENTATION
