"""blemish.data.formats.cvat_format: every shape, tags, subsets of a project, and faults."""

import math

import numpy as np
import pytest
from tests.data.outlines import outlines_of

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.geometry import mask_to_array
from blemish.structures import Task
from blemish.testing import raises

SIZE_WH = (48, 40)
BOX = '<box label="dent" occluded="0" xtl="4.5" ytl="6" xbr="20" ybr="12.25" z_order="0"></box>'


def image(name="a.png", *shapes, size=SIZE_WH, more=""):
    inside = "\n".join(f"    {s}" for s in shapes)
    return (
        f'  <image id="0" name="{name}" {more} width="{size[0]}" height="{size[1]}">\n{inside}\n  </image>\n'
    )


def document(*images, names=("dent", "rust")):
    listed = "".join(f"<label><name>{n}</name><color>#f00</color></label>" for n in names)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
        f"  <meta>\n    <job>\n    <labels>{listed}</labels>\n    </job>\n  </meta>\n"
        f"{''.join(images)}</annotations>\n"
    )


@pytest.fixture
def export(draw, tmp_path):
    """A function that writes an export: images in `images`, annotations.xml next to it."""

    def one(*images, image_names=("a.png",), **options):
        for name in image_names:
            draw(f"images/{name}", SIZE_WH)
        path = tmp_path / "annotations.xml"
        path.write_text(document(*images, **options), "utf-8")
        return path

    return one


def test_read_every_kind_of_shape(export, tmp_path):
    window = np.array([[0, 1, 1], [1, 0, 1]], bool)
    export(
        image(
            "a.png",
            BOX,
            '<polygon label="rust" points="1,1;9.5,1;9,8;1,8" z_order="0"><attribute name="s">x</attribute>'
            "</polygon>",
            '<ellipse label="rust" cx="24" cy="20" rx="10" ry="5" rotation="90"></ellipse>',
            '<box label="dent" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90.0"></box>',
            '<mask label="rust" rle="1, 2, 0, 1, 1, 1" left="7" top="30" width="3" height="2"></mask>',
            '<polyline label="dent" points="1,1;2,2"></polyline>',
            '<skeleton label="dent"><points label="p" points="3,4"></points></skeleton>',
        )
    )
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.task) == ("cvat", Task.SEGMENTATION)
    assert dataset.labels.names == ("dent", "rust")
    ground_truth = dataset[0].ground_truth
    assert ground_truth.label_names == ("dent", "rust", "rust", "dent", "rust")
    expected = np.array(
        [[4.5, 6, 20, 12.25], [1, 1, 9.5, 8], [19, 10, 29, 30], [15, 5, 25, 25], [7, 30, 10, 32]]
    )
    np.testing.assert_allclose(ground_truth.boxes_xyxy, expected, atol=0.1)
    assert ground_truth.masks[2].area == pytest.approx(math.pi * 50, rel=0.03)
    expected_mask = np.zeros(SIZE_WH[::-1], bool)
    expected_mask[30:32, 7:10] = window
    assert (mask_to_array(ground_truth.masks[4]) == expected_mask).all()
    assert {n for n in dataset.notes if "no area" in n} == {
        "1 shapes of type polyline have no area and were left out",
        "1 shapes of type skeleton have no area and were left out",
    }


def test_boxes_without_masks_are_a_detection_set(export, tmp_path):
    path = export(image("a.png", BOX), image("b.png"), image_names=("a.png", "b.png"))
    for where in (tmp_path, path):
        dataset = open_dataset(where)
        assert dataset.task is Task.DETECTION
        assert [len(s.ground_truth) for s in dataset] == [1, 0]


def test_positive_rotation_of_a_box_is_clockwise(export, tmp_path):
    export(image("a.png", '<box label="dent" xtl="10" ytl="10" xbr="30" ybr="20" rotation="30"></box>'))
    (outline,) = outlines_of(open_dataset(tmp_path)[0].ground_truth.masks[0])
    # The upper right corner moves down on the displayed image.
    assert outline[1].tolist() == pytest.approx(
        [20 + 10 * math.cos(math.pi / 6) + 5 * 0.5, 15 + 10 * 0.5 - 5 * math.cos(math.pi / 6)]
    )


def test_tags_are_a_multilabel_set(export, tmp_path):
    export(
        image("a.png", '<tag label="rust"></tag>', '<tag label="dent"></tag>'),
        image("b.png"),
        image_names=("a.png", "b.png"),
    )
    dataset = open_dataset(tmp_path)
    assert dataset.task is Task.MULTILABEL
    assert [s.ground_truth.label_names for s in dataset] == [("dent", "rust"), ()]


def test_subsets_of_a_project_are_splits(export, tmp_path):
    export(
        image("train/a.png", BOX, more='subset="Train"'),
        image("b.png", BOX, more='subset="Validation"'),
        image_names=("train/a.png", "b.png"),
    )
    assert open_dataset(tmp_path).splits == {"train": 1, "val": 1}


def test_video_tracks_are_rejected(export, tmp_path):
    export('  <track id="0" label="dent"></track>\n')
    with raises("bad-dataset.video-tracks", "annotations.xml", "CVAT for images 1.1"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ('<box label="dent" xtl="4" ytl="6" xbr="x" ybr="12"></box>', "bad-box"),
        ('<box label="dent" xtl="20" ytl="6" xbr="4" ybr="12"></box>', "box-inside-out"),
        ('<box label="dent" xtl="4" ytl="6" xbr="80" ybr="12"></box>', "box-outside"),
        ('<box label="" xtl="4" ytl="6" xbr="8" ybr="12"></box>', "empty-label"),
        ('<polygon label="dent" points="1,1;2,2"></polygon>', "empty-polygon"),
        ('<polygon label="dent" points="1;2"></polygon>', "bad-box"),
        ('<mask label="dent" rle="9,9" left="1" top="1" width="3" height="3"></mask>', "bad-run-lengths"),
        ('<mask label="dent" rle="" left="1" top="1" width="3" height="3"></mask>', "bad-run-lengths"),
    ],
)
def test_invalid_shape_is_reported_with_its_line(export, tmp_path, shape, code):
    names = [f"{i}.png" for i in range(11)]
    images = [image(n, BOX) for n in names[:-1]]
    path = export(*images, image(names[-1], BOX, shape), image_names=names, names=("dent",))
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if shape in text)
    found = check(tmp_path, duplicates=False)
    assert [(f.code, f.origin) for f in found] == [(code, f"{path}:{line}")]


def test_missing_and_repeated_images_are_reported(export, tmp_path):
    names = [f"{i}.png" for i in range(10)]
    export(
        *(image(n, BOX) for n in names),
        image("gone.png", BOX),
        image("0.png", BOX),
        image_names=names,
        names=("dent",),
    )
    assert check(tmp_path, duplicates=False).counts == {"missing-image": 1, "repeated-line": 1}


@pytest.mark.parametrize("order", [1, -1])
def test_image_in_two_subsets_is_read_into_the_later_split(export, tmp_path, order):
    twice = [image("0.png", BOX, more=f'subset="{name}"') for name in ("Train", "Validation")]
    export(*twice[::order], image("1.png", BOX, more='subset="Train"'), image_names=("0.png", "1.png"))
    dataset = open_dataset(tmp_path)
    assert {s.id: s.split for s in dataset} == {"images/0.png": "val", "images/1.png": "train"}
    assert "both train and val are read into val only" in " ".join(dataset.notes)
    found = check(tmp_path, duplicates=False).of("split-leak")
    assert [(f.path, f.fix) for f in found] == [(None, "drops it from train")]
    assert all(fact in found[0].message for fact in ("'0.png'", "train", "val"))
    assert not check(tmp_path, duplicates=False).of("repeated-line")


@pytest.mark.parametrize(
    ("text", "code", "fact"),
    [
        ("<annotations><image></annotations>", "invalid-xml", "annotations.xml:1"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotations>&a;</annotations>', "invalid-xml", "entities"),
        ("<annotations></annotations>", "no-labels", ""),
        (document(), "no-images", "--images"),
    ],
)
def test_invalid_file_is_one_sentence(export, tmp_path, text, code, fact):
    export().write_text(text)
    with raises(f"bad-dataset.{code}", fact) as caught:
        open_dataset(tmp_path)
    assert "\n" not in caught.message


@pytest.mark.parametrize(
    ("rle", "left"),
    [("99999999999999999999999", "7"), ("1, 5", "inf"), (f"{2**62}, {2**62}, {2**62}, {2**62}", "7")],
)
def test_mask_with_numbers_out_of_range_is_reported_with_its_line(export, tmp_path, rle, left):
    mask = f'<mask label="rust" rle="{rle}" left="{left}" top="30" width="3" height="2"></mask>'
    path = export(image("a.png", "<!-- <box\n-->" + BOX, mask))
    line = 1 + path.read_text("utf-8").partition("<mask")[0].count("\n")
    found = check(tmp_path, duplicates=False)
    assert [f.origin for f in found.of("bad-run-lengths")] == [f"{path}:{line}"]


def test_image_with_different_labels_in_two_subsets_is_an_error(export, tmp_path):
    wide = BOX.replace('xbr="20"', 'xbr="30"')
    export(
        image("0.png", BOX, more='subset="Train"'),
        image("0.png", wide, more='subset="Test"'),
        image_names=["0.png"],
    )
    with raises("bad-dataset.contradicting-labels", "annotations.xml", "'0.png'", "train", "test"):
        open_dataset(tmp_path)
    assert {"contradicting-labels", "split-leak"} <= set(check(tmp_path, duplicates=False).counts)


def test_outline_and_box_of_one_object_in_a_group_are_one_object(draw, tmp_path):
    draw("a.png")
    points = "2.00,2.00;12.00,2.00;12.00,9.00"
    shapes = "".join(
        f'<polygon label="dent" points="{points}" group_id="{g}"/>'
        f'<box label="{label}" xtl="2" ytl="2" xbr="{right}" ybr="9" group_id="{box_group}"/>'
        for g, label, right, box_group in [(1, "dent", 12, 1), (2, "rust", 12, 2), (3, "dent", 15, 3)]
    )
    text = f'<annotations><image id="0" name="a.png" width="24" height="20">{shapes}</image></annotations>'
    (tmp_path / "annotations.xml").write_text(text)
    found = open_dataset(tmp_path)
    # The first box is that of its outline; the second has another label, the third another size.
    assert len(found[0].ground_truth) == 5
    assert any("same group" in n for n in found.notes)
    assert len(check(tmp_path, duplicates=False).of("repeated-object")) >= 1
