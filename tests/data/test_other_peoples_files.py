"""COCO, VOC and YOLO as other programs write them."""

import json

import numpy as np
import pytest
from pycocotools import mask as reference
from pycocotools.coco import COCO

from blemish.data import open_dataset
from blemish.data.synthetic.generate import synthesize
from blemish.errors import BadDataset
from blemish.geometry import mask_to_array
from blemish.structures import Task


def coco(images=("a.png",), **changes):
    content = {
        "images": [{"id": i, "file_name": n, "height": 20, "width": 24} for i, n in enumerate(images)],
        "categories": [{"id": 3, "name": "dent"}, {"id": 7, "name": "rust"}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, 10, 6]}],
    }
    return json.dumps(content | changes)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools and NumPy 2
def test_what_we_write_is_what_pycocotools_reads(tmp_path, capsys):
    synthesize("panels", tmp_path / "set", task="segmentation", format="coco", count=20, size=64, seed=2)
    dataset = open_dataset(tmp_path / "set")
    found = COCO(tmp_path / "set/annotations.json")
    names = {c["id"]: c["name"] for c in found.dataset["categories"]}
    by_name = {i["file_name"]: i for i in found.dataset["images"]}
    for sample in dataset:
        entries = found.loadAnns(found.getAnnIds(by_name[sample.path.name]["id"]))
        assert [names[a["category_id"]] for a in entries] == list(sample.ground_truth.label_names)
        for entry, mask, box in zip(
            entries, sample.ground_truth.masks, sample.ground_truth.boxes_xyxy, strict=True
        ):
            assert (found.annToMask(entry) == mask_to_array(mask)).all()
            assert entry["area"] == mask.area
            np.testing.assert_allclose(entry["bbox"], [*box[:2], *(box[2:] - box[:2])])


def test_coco_of_every_kind_of_region(draw, tmp_path):
    draw("images/a.png")
    array = np.zeros((20, 24), np.uint8, order="F")
    array[4:9, 5:12] = 1
    array[6, 7] = 0
    packed = reference.encode(array)
    runs = [4 + 5 * 20, 5, 15, 5, 15, 2, 1, 2, 15, 5, 15, 5, 15, 5, 15, 5]
    runs.append(480 - sum(runs))
    segments = [
        [[5, 4, 12, 4, 12, 9, 5, 9], [1, 1, 3, 1, 3, 3]],
        {"size": [20, 24], "counts": packed["counts"].decode()},
        {"size": [20, 24], "counts": runs},
        [],
    ]
    entries = [
        {
            "id": i,
            "image_id": 0,
            "category_id": 3,
            "bbox": [5, 4, 7, 5],
            "segmentation": s,
            "iscrowd": int(i == 2),
        }
        for i, s in enumerate(segments)
    ]
    (tmp_path / "annotations.json").write_text(coco(annotations=entries))
    dataset = open_dataset(tmp_path)
    ground_truth = dataset[0].ground_truth
    assert dataset.task is Task.SEGMENTATION
    assert ground_truth.crowd.tolist() == [False, False, True, False]
    assert (mask_to_array(ground_truth.masks[1]) == array).all()
    assert ground_truth.masks[2].area == array.sum()
    assert ground_truth.masks[3].area == 35
    assert any("no polygon" in n for n in dataset.notes)
    assert open_dataset(tmp_path, task="detection")[0].ground_truth.masks is None


def test_roboflow_s_coco(draw, tmp_path):
    roboflow = [
        {"id": 0, "name": "damage", "supercategory": "none"},
        {"id": 1, "name": "dent", "supercategory": "damage"},
        {"id": 7, "name": "rust", "supercategory": "damage"},
    ]
    for split in ("train", "valid"):
        draw(f"{split}/a.png")
        (tmp_path / split / "_annotations.coco.json").write_text(coco(categories=roboflow))
    dataset = open_dataset(tmp_path)
    assert dataset.labels.names == ("dent", "rust")
    assert dataset.splits == {"train": 1, "val": 1}
    assert [s.id for s in dataset] == ["train/a.png", "valid/a.png"]
    assert [s.ground_truth.label_names for s in dataset] == [("rust",)] * 2
    assert any("Roboflow" in n for n in dataset.notes)


def test_a_category_0_that_is_used_stays(draw, tmp_path):
    draw("images/a.png")
    zero = [{"id": 0, "name": "dent", "supercategory": "none"}, {"id": 7, "name": "rust"}]
    entries = [{"id": 1, "image_id": 0, "category_id": 0, "bbox": [1, 2, 10, 6]}]
    (tmp_path / "annotations.json").write_text(coco(categories=zero, annotations=entries))
    assert open_dataset(tmp_path).labels.names == ("dent", "rust")


def test_coco_with_images_elsewhere(draw, tmp_path):
    draw("train2017/a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text(coco())
    assert open_dataset(tmp_path).splits == {"train": 1}
    draw("else/where/b.png")
    (tmp_path / "alone.json").write_text(coco(["b.png"]))
    assert open_dataset(tmp_path / "alone.json", images=tmp_path / "else")[0].path.name == "b.png"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"images": [', "no valid JSON"),
        ('{"images": [], "annotations": {}}', "no list 'annotations'"),
        (
            coco(annotations=[{"id": 5, "image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]),
            "annotation 5: it belongs",
        ),
        (
            coco(annotations=[{"id": 5, "image_id": 0, "category_id": 4, "bbox": [0, 0, 1, 1]}]),
            "annotation 5: its cat",
        ),
        (
            coco(annotations=[{"id": 5, "image_id": 0, "category_id": 3, "bbox": [0, 0, -1, 1]}]),
            "negative side",
        ),
        (coco(annotations=[{"id": 5, "image_id": 0, "category_id": 3, "bbox": "x"}]), "four finite numbers"),
        (coco(images=["a.png", "gone.png"]), "gone.png"),
        (coco(images=["a.png", "a.png"]), "listed twice"),
    ],
)
def test_bad_coco_is_one_sentence(draw, tmp_path, text, says):
    draw("images/a.png")
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(BadDataset, match=says) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_images_of_coco_can_be_kept(tmp_path):
    (tmp_path / "annotations.json").write_text(coco())
    dataset = open_dataset(tmp_path, missing="keep")
    assert dataset[0].size_hw == (20, 24)
    assert dataset[0].ground_truth.boxes_xyxy.tolist() == [[1, 2, 11, 8]]


def page(*boxes, name="x.jpg", size=(24, 20), extra=""):
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
            text = page(
                ("dog", 1, 1, 24, 20), ("cat", 3, 4, 5, 6), extra="<difficult>1</difficult>", name="other.jpg"
            )
            (base / "Annotations" / f"{stem}.xml").write_text(text)
        (base / "ImageSets/Main/trainval.txt").write_text("000001\n000002\n")
        (base / "ImageSets/Main/val.txt").write_text("000002\n")
        (base / "ImageSets/Main/test.txt").write_text("000003\nabsent\n")
        (base / "ImageSets/Main/dog_train.txt").write_text("000001 -1\n")
    return tmp_path / "VOCdevkit"


def test_both_years_of_voc(devkit):
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


def test_voc_that_counts_from_0(devkit):
    (devkit / "VOC2007/Annotations/000001.xml").write_text(page(("dog", 0, 0, 24, 20)))
    dataset = open_dataset(devkit / "VOC2007")
    assert dataset[1].ground_truth.boxes_xyxy.tolist() == [[1, 1, 24, 20], [3, 4, 5, 6]]
    assert any("from 0" in n for n in dataset.notes)


def test_xml_beside_images(draw, tmp_path):
    draw("a.png")
    (tmp_path / "a.xml").write_text(page(("dog", 1, 1, 24, 20)))
    assert open_dataset(tmp_path).format == "voc"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<annotation><object>", r"000001.xml:\d+: no valid XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotation>&a;</annotation>', "entities"),
        (page(("dog", 9, 1, 2, 20)), "ends before it begins"),
        (page(("dog", "x", 1, 2, 20)), "xmin, ymin, xmax and ymax"),
        (page(("", 1, 1, 2, 20)), "no name"),
    ],
)
def test_bad_xml_is_one_sentence(devkit, text, says):
    (devkit / "VOC2007/Annotations/000001.xml").write_text(text)
    with pytest.raises(BadDataset, match=says) as caught:
        open_dataset(devkit / "VOC2007")
    assert "\n" not in str(caught.value)


LINE = "1 0.5 0.5 0.25 0.5\n"
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
def test_yolo_as_others_lay_it_out(draw, tmp_path, kind):
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


def test_one_folder_for_training_and_measuring_is_training(draw, tmp_path):
    draw("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(LINE)
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [dent, rust]\n")
    dataset = open_dataset(tmp_path)
    assert dataset.splits == {"train": 1}
    assert any("stand in" in n for n in dataset.notes)


@pytest.mark.parametrize(
    ("yaml", "line", "says"),
    [
        ("names: [dent\n", LINE, "expected one of.*data.yaml"),
        ("train: images\nnames: {0: dent, 2: rust}\n", LINE, "without gaps"),
        ("train: images\nnames: [dent, dent]\n", LINE, "given twice"),
        ("train: nowhere\nnames: [dent, rust]\n", LINE, "no folder or list 'nowhere'"),
        ("path: .\nnames: [dent, rust]\n", LINE, "neither train, val nor test"),
        ("train: images\nnames: [dent, rust]\n", "2 .5 .5 .1 .1\n", r"a.txt:1: label 2 is not among the 2"),
        ("train: images\nnames: [dent, rust]\n", LINE + "0 .5 .5\n", "a.txt:2: a line takes"),
    ],
)
def test_bad_yolo_is_one_sentence(draw, tmp_path, yaml, line, says):
    draw("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(line)
    (tmp_path / "data.yaml").write_text(yaml)
    with pytest.raises(BadDataset, match=says) as caught:
        open_dataset(tmp_path / "data.yaml")
    assert "\n" not in str(caught.value)


def test_an_image_without_text_file_holds_nothing(draw, tmp_path):
    draw("images/a.png")
    draw("images/b.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(LINE)
    dataset = open_dataset(tmp_path)
    assert [len(s.ground_truth) for s in dataset] == [1, 0]
    assert dataset.labels.names == ("0", "1")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"category_id": [7]}, r"category '\[7\]' is not listed"),
        ({"category_id": "7"}, "category '7' is not listed"),
        ({"image_id": {"a": 1}}, "which is not listed"),
        ({"segmentation": "yes"}, "neither outlines nor run lengths"),
        ({"segmentation": {"counts": "abc"}}, "size is None, not height and width"),
        ({"segmentation": {"counts": "abc", "size": [1e300, 5]}}, "not height and width"),
    ],
)
def test_ids_and_outlines_of_any_type_are_one_sentence(draw, tmp_path, changes, says):
    draw("images/a.png")
    entry = {"id": 5, "image_id": 0, "category_id": 3, "bbox": [0, 0, 1, 1]}
    (tmp_path / "annotations.json").write_text(coco(annotations=[entry | changes]))
    with pytest.raises(BadDataset, match=says) as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["gbk", "no-such-encoding"])
def test_xml_in_an_encoding_that_cannot_be_read_is_one_sentence(devkit, encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?>{page(("dog", 1, 1, 2, 2))}'
    (devkit / "VOC2007/Annotations/000001.xml").write_text(text)
    with pytest.raises(BadDataset, match="save it in UTF-8"):
        open_dataset(devkit / "VOC2007")


def test_a_size_that_is_no_number_is_no_size(devkit):
    text = page(("dog", 1, 1, 24, 20), size=("inf", "nan"))
    (devkit / "VOC2007/Annotations/000001.xml").write_text(text)
    assert open_dataset(devkit / "VOC2007")[0].size_hw == (20, 24)


def test_xml_and_image_may_differ_in_case(draw, tmp_path):
    draw("JPEGImages/a.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations/A.xml").write_text(page(("dog", 1, 1, 24, 20)))
    assert open_dataset(tmp_path).notes == ()


def test_a_label_s_number_cannot_fill_the_memory(draw, tmp_path):
    draw("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("999999999999 .5 .5 .1 .1\n")
    with pytest.raises(BadDataset, match="too high"):
        open_dataset(tmp_path)
