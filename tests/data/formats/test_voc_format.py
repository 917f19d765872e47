"""blemish.data.formats.voc_format: VOC folders of several tools, and their faults."""

import numpy as np
import pytest
from tests.data.outlines import outlines_of

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.formats import get_format
from blemish.structures import Task
from blemish.testing import raises

XML = """<annotation><filename>{}</filename><size><width>24</width><height>20</height></size>
<object><name>dent</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def write_pair(draw, tmp_path):
    """A function that writes an image and its XML file."""
    (tmp_path / "Annotations").mkdir()

    def one(name, text=None):
        image = draw(f"JPEGImages/{name}")
        file = tmp_path / f"Annotations/{image.stem}.xml"
        file.write_text(XML.format(name) if text is None else text)
        return image

    return one


@pytest.mark.parametrize("filename", ["a.png", "a.jpg"])
def test_images_of_one_stem_are_distinguished_by_filename(write_pair, draw, tmp_path, filename):
    for name in ("a.png", "a.jpg", "b.png"):
        write_pair(name)
    (tmp_path / "Annotations/a.xml").write_text(XML.format(filename))
    other = {"a.png": "a.jpg", "a.jpg": "a.png"}[filename]
    assert [s.path.name for s in open_dataset(tmp_path)] == [filename, "b.png"]
    found = check(tmp_path, duplicates=False)
    assert [f.path.name for f in found.of("image-without-label")] == [other]


def test_xml_of_another_kind_is_an_error(write_pair, tmp_path):
    write_pair("a.png")
    write_pair("b.png", "<html><body/></html>")
    assert [f.path.name for f in check(tmp_path, duplicates=False).of("bad-file")] == ["b.xml"]
    with raises("bad-dataset.bad-file", "b.xml", "<html>"):
        open_dataset(tmp_path)


def test_image_in_no_list_is_reported(write_pair, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write_pair(name)
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    found = check(tmp_path, duplicates=False)
    assert [f.path.name for f in found.of("image-not-listed")] == ["c.png"]


def annotation(*boxes, name="x.jpg", size=(24, 20), extra=""):
    objects = "".join(
        f"<object><name>{n}</name>{extra}<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for n, a, b, c, d in boxes
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        f"{objects}</annotation>"
    )


@pytest.fixture
def devkit(draw, tmp_path):
    for year in ("2007", "2012"):
        base = tmp_path / "VOCdevkit" / f"VOC{year}"
        for folder in ("Annotations", "ImageSets/Main"):
            (base / folder).mkdir(parents=True)
        for stem, suffix in (("000001", ".jpg"), ("000002", ".jpeg"), ("000003", ".png")):
            draw(f"VOCdevkit/VOC{year}/JPEGImages/{stem}{suffix}")
            text = annotation(
                ("dog", 1, 1, 24, 20), ("cat", 3, 4, 5, 6), extra="<difficult>1</difficult>", name="other.jpg"
            )
            (base / "Annotations" / f"{stem}.xml").write_text(text)
        (base / "ImageSets/Main/trainval.txt").write_text("000001\n000002\n")
        (base / "ImageSets/Main/val.txt").write_text("000002\n")
        (base / "ImageSets/Main/test.txt").write_text("000003\nabsent\n")
        (base / "ImageSets/Main/dog_train.txt").write_text("000001 -1\n")
    return tmp_path / "VOCdevkit"


def test_read_both_years(devkit):
    for path, count in ((devkit, 6), (devkit.parent, 6), (devkit / "VOC2012", 3)):
        dataset = open_dataset(path)
        assert len(dataset) == count
        assert dataset.labels.names == ("cat", "dog")
    dataset = open_dataset(devkit)
    assert dataset.splits == {"train": 2, "val": 2, "test": 2}
    assert dataset[1].id == "VOC2007/JPEGImages/000002.jpeg"
    ground_truth = dataset[0].ground_truth
    assert ground_truth.label_names == ("dog", "cat")
    assert ground_truth.boxes_xyxy.tolist() == [[0, 0, 24, 20], [2, 3, 5, 6]]
    assert ground_truth.difficult.tolist() == [True, True]
    assert any("absent" in n for n in dataset.notes)


def test_read_boxes_that_count_from_0(devkit):
    (devkit / "VOC2007/Annotations/000001.xml").write_text(annotation(("dog", 0, 0, 24, 20)))
    dataset = open_dataset(devkit / "VOC2007")
    assert dataset[1].ground_truth.boxes_xyxy.tolist() == [[1, 1, 24, 20], [3, 4, 5, 6]]
    assert any("from 0" in n for n in dataset.notes)


def test_read_xml_next_to_images(draw, tmp_path):
    draw("a.png")
    (tmp_path / "a.xml").write_text(annotation(("dog", 1, 1, 24, 20)))
    assert open_dataset(tmp_path).format == "voc"


@pytest.mark.parametrize(
    ("text", "code", "fact"),
    [
        ("<annotation><object>", "bad-file", "000001.xml:1"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotation>&a;</annotation>', "bad-file", "entities"),
        (annotation(("dog", 9, 1, 2, 20)), "box-inside-out", "[9.0, 1.0, 2.0, 20.0]"),
        (annotation(("dog", "x", 1, 2, 20)), "bad-box", "'x'"),
        (annotation(("", 1, 1, 2, 20)), "empty-label", "000001.xml:1"),
    ],
)
def test_fault_is_one_sentence_with_its_place(devkit, text, code, fact):
    (devkit / "VOC2007/Annotations/000001.xml").write_text(text)
    with raises(f"bad-dataset.{code}", fact) as caught:
        open_dataset(devkit / "VOC2007")
    assert "\n" not in caught.message


@pytest.mark.parametrize("encoding", ["gbk", "no-such-encoding"])
def test_xml_in_an_unsupported_encoding_is_an_error(devkit, encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?>{annotation(("dog", 1, 1, 2, 2))}'
    (devkit / "VOC2007/Annotations/000001.xml").write_text(text)
    with raises("bad-dataset.bad-file", "000001.xml:1", "UTF-8"):
        open_dataset(devkit / "VOC2007")


def test_size_that_is_not_finite_is_ignored(devkit):
    text = annotation(("dog", 1, 1, 24, 20), size=("inf", "nan"))
    (devkit / "VOC2007/Annotations/000001.xml").write_text(text)
    assert open_dataset(devkit / "VOC2007")[0].size_hw == (20, 24)


def test_xml_and_image_may_differ_in_case(draw, tmp_path):
    draw("JPEGImages/a.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/A.xml").write_text(annotation(("dog", 1, 1, 24, 20)))
    assert open_dataset(tmp_path).notes == ()


def xml(*objects):
    return f"<annotation><size><width>24</width><height>20</height></size>{''.join(objects)}</annotation>"


def box_object(name="dent", corners=(3, 4, 13, 9), more=""):
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(keys, corners, strict=True))
    return f"<object><name>{name}</name><bndbox>{box}</bndbox>{more}</object>"


@pytest.mark.parametrize(
    ("xml_path", "image_path", "split"),
    [
        ("annotations/{}.xml", "images/{}.png", None),
        ("ANNOTATIONS/{}.xml", "IMAGES/{}.png", None),
        ("Annotations/{}.png.xml", "JPEGImages/{}.png", None),
        ("train/annotations/xmls/{}.xml", "train/images/{}.png", "train"),
        ("validation/annotations/{}.xml", "validation/images/crazing/{}.png", "val"),
        ("annotations/test/{}.xml", "images/test/{}.png", "test"),
        ("xmls/{}.xml", "imgs/{}.png", None),
        ("Train/{}.xml", "Train/{}.png", "train"),
    ],
)
def test_folders_of_other_names_and_depths(draw, tmp_path, xml_path, image_path, split):
    for name in ("a", "b.c"):
        draw(image_path.format(name))
        file = tmp_path / xml_path.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(xml(box_object()))
    found = open_dataset(tmp_path)
    assert (found.format, found.labels.names, len(found)) == ("voc", ("dent",), 2)
    assert {s.split for s in found} == {split}
    assert found[0].ground_truth.boxes_xyxy.tolist() == [[2, 3, 13, 9]]
    assert not check(tmp_path, duplicates=False).errors


def test_split_without_annotations_is_named(draw, tmp_path):
    for path in ("train/images/a.png", "test/images/b.png", "test/images/c.png"):
        draw(path)
    (tmp_path / "train/annotations/xmls").mkdir(parents=True)
    (tmp_path / "train/annotations/xmls/a.xml").write_text(xml(box_object()))
    found = open_dataset(tmp_path)
    assert found.splits == {"train": 1}
    assert any("2 images in test" in n for n in found.notes)
    assert len(check(tmp_path, duplicates=False).of("image-without-label")) == 1


def test_polygons_are_read(draw, tmp_path):
    draw("a.png")
    points = "<polygon><x1>3</x1><y1>4</y1><x2>13</x2><y2>4</y2><x3>13</x3><y3>9</y3></polygon>"
    (tmp_path / "a.xml").write_text(xml(box_object(more=points), box_object("rust", (1, 1, 5, 5))))
    found = open_dataset(tmp_path)
    assert found.task is Task.SEGMENTATION
    ground_truth = found[0].ground_truth
    assert outlines_of(ground_truth.masks[0])[0].tolist() == [[3, 4], [13, 4], [13, 9]]
    assert ground_truth.boxes_xyxy.tolist() == [[3, 4, 13, 9], [1, 1, 5, 5]]
    assert any("1 objects have a box and no polygon" in n for n in found.notes)


def test_rotated_boxes_of_rolabelimg_are_outlines(draw, tmp_path):
    draw("a.png")
    robndbox = "<robndbox><cx>10</cx><cy>8</cy><w>12</w><h>4</h><angle>1.5707963267948966</angle></robndbox>"
    (tmp_path / "a.xml").write_text(xml(f"<object><name>dent</name>{robndbox}</object>"))
    ground_truth = open_dataset(tmp_path)[0].ground_truth
    assert np.allclose(ground_truth.boxes_xyxy, [[8, 2, 12, 14]])
    assert np.allclose(outlines_of(ground_truth.masks[0])[0], [[12, 2], [12, 14], [8, 14], [8, 2]])


@pytest.mark.parametrize("text", ["<frames><frame/></frames>", "<annotations></annotations>", "no XML"])
def test_other_xml_files_are_not_voc(draw, tmp_path, text):
    draw("dent/a.png")
    draw("rust/b.png")
    (tmp_path / "settings.xml").write_text(text)
    assert not get_format("voc").implementation.recognizes(tmp_path)
