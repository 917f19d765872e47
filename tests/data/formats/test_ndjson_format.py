"""blemish.data.formats.ndjson_format: exports of Ultralytics."""

import json

import numpy as np
import pytest
from tests.data.outlines import outlines_of

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.structures import Task
from blemish.testing import check_format, raises

HEAD = {"type": "dataset", "task": "detect", "class_names": {"0": "dent", "1": "rust"}}


def line(name="a.png", split="train", **annotations):
    return {
        "type": "image",
        "file": name,
        "width": 24,
        "height": 20,
        "split": split,
        "annotations": annotations,
    }


@pytest.fixture
def export(draw, tmp_path):
    """A function that writes images and the file that lists them, and returns the folder."""

    def one(*lines, head=HEAD, folder=""):
        for entry in lines:
            draw(folder + entry["file"])
        text = "\n".join(json.dumps(entry) for entry in (head, *lines))
        (tmp_path / folder / "set.ndjson").write_text(text + "\n")
        return tmp_path / folder

    return one


def test_boxes_in_fractions_and_splits(export):
    found = open_dataset(export(line(boxes=[[1, 0.5, 0.5, 0.5, 0.2]]), line("b.png", "val")))
    assert (found.format, found.task, found.labels.names) == ("ndjson", Task.DETECTION, ("dent", "rust"))
    assert found.splits == {"train": 1, "val": 1}
    assert np.allclose(found[0].ground_truth.boxes_xyxy, [[6, 8, 18, 12]])
    assert found[0].ground_truth.label_names == ("rust",)


@pytest.mark.parametrize("kind", ["segments", "obb"])
def test_outlines_in_fractions(export, kind):
    found = open_dataset(export(line(**{kind: [[0, 0.25, 0.1, 0.75, 0.1, 0.75, 0.5, 0.25, 0.5]]})))
    assert np.allclose(outlines_of(found[0].ground_truth.masks[0])[0], [[6, 2], [18, 2], [18, 10], [6, 10]])


def test_keypoints_of_poses_are_left_out_with_a_note(export):
    found = open_dataset(export(line(pose=[[0, 0.5, 0.5, 0.5, 0.2, 0.4, 0.4, 2]])))
    assert np.allclose(found[0].ground_truth.boxes_xyxy, [[6, 8, 18, 12]])
    assert "keypoints were left out" in found.notes


def test_labels_of_images(export):
    found = open_dataset(export(line(classification=[0]), line("b.png", "val", classification=[1])))
    assert (found.task, found[1].ground_truth.label_names) == (Task.CLASSIFICATION, ("rust",))


@pytest.mark.parametrize(
    ("annotations", "code"),
    [
        ({"boxes": [[2, 0.5, 0.5, 0.1, 0.1]]}, "unknown-label"),
        ({"boxes": [["dent", 0.5, 0.5, 0.1, 0.1]]}, "unknown-label"),
        ({"boxes": [[0, 0.5, 0.5, -0.1, 0.1]]}, "bad-box"),
        ({"boxes": [[0, 0.5, 0.5]]}, "bad-box"),
        ({"segments": [[0, 0.5, 0.5, 0.1]]}, "bad-box"),
        ({"spheres": [[0, 0.5]]}, "bad-box"),
    ],
)
def test_invalid_annotations_are_reported_with_their_line(export, annotations, code):
    root = export(line(boxes=[[0, 0.5, 0.5, 0.2, 0.2]]), line("b.png", **annotations))
    with raises(f"bad-dataset.{code}", "set.ndjson:3"):
        open_dataset(root)
    assert len(check(root, duplicates=False).of(code)) == 1


@pytest.mark.parametrize("names", [{}, {"1": "dent"}, {"0": ""}, ["dent"]])
def test_invalid_names_are_an_error(export, names):
    with raises("bad-dataset.label-names", "set.ndjson:1"):
        open_dataset(export(line(), head=HEAD | {"class_names": names}))


def test_invalid_line_is_an_error_with_its_number(export):
    root = export(line())
    with (root / "set.ndjson").open("a") as file:
        file.write("{not JSON\n")
    with raises("bad-dataset.invalid-json", "set.ndjson:3"):
        open_dataset(root)


def test_format_suite(export, tmp_path):
    root = export(line(boxes=[[0, 0.5, 0.5, 0.2, 0.2]]), line("b.png", "val"), folder="set/")
    check_format("ndjson", tmp_path / "suite", example=root)
