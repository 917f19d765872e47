"""YOLO's data.yaml, lists and names as people save them, and what must not be taken for something else."""

from dataclasses import replace

import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.formats import get_format
from blemish.data.merge import read_map
from blemish.data.write_context import WriteContext
from blemish.errors import BadDataset, BadInput
from blemish.structures import Labels

LINE = "1 .5 .5 .25 .5\n"


@pytest.fixture
def tree(draw, tmp_path):
    """Draws images with text files and returns their folder."""

    def one(*names):
        (tmp_path / "labels").mkdir()
        for name in names:
            draw(f"images/{name}.png")
            (tmp_path / f"labels/{name}.txt").write_text(LINE)
        return tmp_path

    return one


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_are_read_in_what_editors_save(tree, encoding):
    root = tree("a")
    (root / "data.yaml").write_text("names: [dent, rust]\ntrain: images\nnc: '2'\n", encoding)
    dataset = open_dataset(root)
    assert dataset.labels.names == ("dent", "rust")
    assert not any("nc" in n for n in dataset.notes)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "data.yaml",
            "train: images\nnames: [a, Stoß]".encode("latin-1"),
            "data.yaml:2: not in UTF-8",
        ),
        ("data.yaml", b"train: images\nnames: [2020-13-45]\n", "data.yaml: no valid YAML"),
        ("data.yaml", b"train: images\nnames: " + b"[" * 3000 + b"]" * 3000, "nested too deep"),
        ("classes.txt", "Stoß\nrust\n".encode("latin-1"), "classes.txt:1: not in UTF-8"),
        ("classes.txt", b"dent\n\nrust\n", "classes.txt: label 1 has no name"),
        ("classes.txt", b"dent\ndent\n", "classes.txt: the label 'dent' is given twice"),
    ],
)
def test_names_that_cannot_be_read_are_said_with_their_file(tree, name, content, says):
    root = tree("a")
    (root / name).write_bytes(content)
    with pytest.raises(BadDataset, match=says):
        open_dataset(root)
    assert check(root).errors


def test_a_list_that_cannot_be_read_is_said_with_its_line(tree):
    root = tree("a")
    (root / "data.yaml").write_text("train: t.txt\nnames: [dent, rust]\n")
    (root / "t.txt").write_bytes("images/a.png\nimages/Stoß.png\n".encode("latin-1"))
    with pytest.raises(BadDataset, match=r"t\.txt:2: not in UTF-8"):
        open_dataset(root)


def test_what_no_list_names_is_only_a_note(tree):
    root = tree("a", "b", "c")
    (root / "images/c.png").unlink()
    (root / "data.yaml").write_text("train: t.txt\nnames: [dent, rust]\n")
    (root / "t.txt").write_text("images/a.png\n")
    found = check(root, duplicates=False)
    assert [f.path for f in found.of("image-not-listed")] == [root / "images/b.png"]
    assert [f.path for f in found.of("label-without-image")] == [root / "labels/c.txt"]
    assert not found.of("image-without-label")


def test_a_label_of_two_lines_is_told_when_written(tree, tmp_path):
    root = tree("a")
    (root / "classes.txt").write_text("dent\nrust\n")
    dataset = open_dataset(root)
    labels = Labels(("a\nb", "rust"), ("A", "Rust"))
    sample = replace(dataset[0], ground_truth=replace(dataset[0].ground_truth, labels=labels))
    writing = WriteContext()
    get_format("yolo").implementation.write(
        replace(dataset, labels=labels, samples=(sample,)), tmp_path / "out", writing
    )
    assert any("became one line" in what for what in writing.lost)
    assert open_dataset(tmp_path / "out").labels.names == ("a b", "rust")


@pytest.mark.parametrize("text", ["d: 2020-13-45", "d: " + "[" * 3000])
def test_a_map_that_yaml_cannot_build_is_one_sentence(tmp_path, text):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"map\.yaml: no valid YAML"):
        read_map(tmp_path / "map.yaml")
