"""blemish.data.formats.yolo_format: YOLO data sets of several tools, and their faults."""

from dataclasses import replace

import numpy as np
import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.formats import get_format
from blemish.data.merge import read_label_map
from blemish.data.write_context import WriteContext
from blemish.structures import Labels
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
    get_format("yolo").implementation.write(
        replace(dataset, labels=labels, samples=(sample,)), tmp_path / "out", context
    )
    assert any("classes.txt" in what for what in context.lost)
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
