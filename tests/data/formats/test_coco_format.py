"""blemish.data.formats.coco_format: COCO files of several tools, and their faults."""

import json

import numpy as np
import pytest
from pycocotools import mask as reference
from pycocotools.coco import COCO
from tests.data.outlines import outlines_of

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.data.synthetic.generate import synthesize
from blemish.geometry import mask_to_array
from blemish.structures import Task
from blemish.testing import raises

DENT = {"id": 1, "name": "dent"}
RUST = {"id": 2, "name": "rust"}


def entry(number=1, **changes):
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 6], "area": 60} | changes


@pytest.fixture
def coco(draw, tmp_path):
    """A function that writes one image and its COCO file."""

    def one(annotations=(), categories=(DENT, RUST), **image):
        draw("a.png")
        image = {"id": 1, "file_name": "a.png", "width": 24, "height": 20} | image
        content = {"images": [image], "categories": categories, "annotations": [entry(0), *annotations]}
        (tmp_path / "annotations.json").write_text(json.dumps(content))
        return tmp_path

    return one


def test_repeated_category_id_is_an_error(coco):
    root = coco(categories=[DENT, {"id": 1, "name": "scratch"}])
    assert len(check(root, duplicates=False).of("repeated-label")) == 1
    with raises("bad-dataset.repeated-label", "annotations.json", "'dent'", "'scratch'", "id 1"):
        open_dataset(root)


def test_category_0_that_is_not_a_supercategory_is_a_label(coco):
    root = coco(categories=[{"id": 0, "name": "rust", "supercategory": "none"}, DENT])
    assert open_dataset(root).labels.names == ("rust", "dent")


def test_boxes_in_fractions_are_an_error(coco, draw, table, tmp_path):
    root = coco([entry(bbox=[0.1, 0.1, 0.3, 0.4])], width=64, height=48)
    draw("a.png", (64, 48))
    assert not check(root, duplicates=False).of("labels-in-another-scale")  # the other box is in pixels
    content = json.loads((root / "annotations.json").read_text())
    del content["annotations"][0]
    (root / "annotations.json").write_text(json.dumps(content))
    assert len(check(root, duplicates=False).of("labels-in-another-scale")) == 1
    with raises("bad-dataset.labels-in-another-scale", "annotations.json", "64 and 48"):
        open_dataset(root)
    (root / "annotations.json").unlink()
    table("filename,xmin,ymin,xmax,ymax,label\na.png,.1,.1,.5,1,dent\n")
    with raises("bad-dataset.labels-in-another-scale", "labels.csv:2"):
        open_dataset(root)


@pytest.mark.parametrize(("width", "wrong"), [(1e30, 1), (-64, 1), ("64", 1), ([], 1), (None, 0), (0, 0)])
def test_impossible_size_of_an_image_is_reported(coco, width, wrong):
    found = check(coco(width=width, height=20 if wrong else None), duplicates=False)
    assert len(found.of("wrong-stated-size")) == wrong


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"bbox": [2**64, 0, 5, 5]}, "bad-box"),
        ({"bbox": [1e308, 0, 1e308, 5]}, "bad-box"),
        ({"area": 2**2000}, None),
        ({"segmentation": [[2**64, 0, 1, 1, 5, 5]]}, "empty-polygon"),
        ({"segmentation": {"size": [20, 24], "counts": [[1], [479]]}}, "bad-run-lengths"),
        ({"segmentation": {"size": [20, 24], "counts": [1.5, 478.5]}}, "bad-run-lengths"),
        ({"segmentation": {"size": [20, 24], "counts": [2**80, 1]}}, "bad-run-lengths"),
    ],
)
def test_numbers_out_of_range_lose_one_object_only(coco, changes, code):
    found = check(coco([entry(5, **{"bbox": [4, 4, 6, 6], **changes})]), duplicates=False)
    codes = {f.code: f.origin for f in found if f.code not in ("few-examples", "unused-label")}
    assert set(codes) == ({code} if code else set())
    assert all(origin.endswith("annotation 5") for origin in codes.values())


@pytest.mark.parametrize(
    ("text", "code", "fact"),
    [
        ("9" * 5000, "invalid-json", "digits"),
        ("[" * 100_000, "invalid-json", "nested"),
        ("1\xff", "encoding", "UTF-8"),
    ],
)
def test_invalid_json_is_one_sentence(coco, text, code, fact):
    root = coco()
    (root / "annotations.json").write_bytes(f'{{"images": {text}'.encode("latin-1"))
    with raises(f"bad-dataset.{code}", "annotations.json", fact):
        open_dataset(root)


def content(images=("a.png",), **changes):
    fields = {
        "images": [{"id": i, "file_name": n, "height": 20, "width": 24} for i, n in enumerate(images)],
        "categories": [{"id": 3, "name": "dent"}, {"id": 7, "name": "rust"}],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 7, "bbox": [1, 2, 10, 6]}],
    }
    return json.dumps(fields | changes)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools and NumPy 2
def test_write_equals_what_pycocotools_reads(tmp_path, capsys):
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


def test_read_every_kind_of_segmentation(draw, tmp_path):
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
    (tmp_path / "annotations.json").write_text(content(annotations=entries))
    dataset = open_dataset(tmp_path)
    ground_truth = dataset[0].ground_truth
    assert dataset.task is Task.SEGMENTATION
    assert ground_truth.crowd.tolist() == [False, False, True, False]
    assert (mask_to_array(ground_truth.masks[1]) == array).all()
    assert ground_truth.masks[2].area == array.sum()
    assert ground_truth.masks[3].area == 35
    assert any("no polygon" in n for n in dataset.notes)
    assert open_dataset(tmp_path, task="detection")[0].ground_truth.masks is None


def test_read_an_export_of_roboflow(draw, tmp_path):
    roboflow = [
        {"id": 0, "name": "damage", "supercategory": "none"},
        {"id": 1, "name": "dent", "supercategory": "damage"},
        {"id": 7, "name": "rust", "supercategory": "damage"},
    ]
    for split in ("train", "valid"):
        draw(f"{split}/a.png")
        (tmp_path / split / "_annotations.coco.json").write_text(content(categories=roboflow))
    dataset = open_dataset(tmp_path)
    assert dataset.labels.names == ("dent", "rust")
    assert dataset.splits == {"train": 1, "val": 1}
    assert [s.id for s in dataset] == ["train/a.png", "valid/a.png"]
    assert [s.ground_truth.label_names for s in dataset] == [("rust",)] * 2
    assert any("Roboflow" in n for n in dataset.notes)


def test_category_0_that_is_used_is_a_label(draw, tmp_path):
    draw("images/a.png")
    zero = [{"id": 0, "name": "dent", "supercategory": "none"}, {"id": 7, "name": "rust"}]
    entries = [{"id": 1, "image_id": 0, "category_id": 0, "bbox": [1, 2, 10, 6]}]
    (tmp_path / "annotations.json").write_text(content(categories=zero, annotations=entries))
    assert open_dataset(tmp_path).labels.names == ("dent", "rust")


def test_read_images_from_other_folders(draw, tmp_path):
    draw("train2017/a.png")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train2017.json").write_text(content())
    assert open_dataset(tmp_path).splits == {"train": 1}
    draw("else/where/b.png")
    (tmp_path / "alone.json").write_text(content(["b.png"]))
    assert open_dataset(tmp_path / "alone.json", images=tmp_path / "else")[0].path.name == "b.png"


@pytest.mark.parametrize(
    ("text", "code", "fact"),
    [
        ('{"images": [', "invalid-json", "annotations.json:1"),
        ('{"images": [], "annotations": {}}', "missing-key", "'annotations'"),
        (
            content(annotations=[{"id": 5, "image_id": 9, "category_id": 3, "bbox": [0, 0, 1, 1]}]),
            "label-without-image",
            "annotation 5",
        ),
        (
            content(annotations=[{"id": 5, "image_id": 0, "category_id": 4, "bbox": [0, 0, 1, 1]}]),
            "unknown-label",
            "annotation 5",
        ),
        (
            content(annotations=[{"id": 5, "image_id": 0, "category_id": 3, "bbox": [0, 0, -1, 1]}]),
            "box-inside-out",
            "-1.0",
        ),
        (content(annotations=[{"id": 5, "image_id": 0, "category_id": 3, "bbox": "x"}]), "bad-box", "'x'"),
        (content(images=["a.png", "gone.png"]), "missing-image", "gone.png"),
        (content(images=["a.png", "a.png"]), "repeated-line", "'a.png'"),
    ],
)
def test_fault_is_one_sentence_with_its_place(draw, tmp_path, text, code, fact):
    draw("images/a.png")
    (tmp_path / "annotations.json").write_text(text)
    with raises(f"bad-dataset.{code}", fact) as caught:
        open_dataset(tmp_path)
    assert "\n" not in caught.message


def test_missing_images_can_be_kept(tmp_path):
    (tmp_path / "annotations.json").write_text(content())
    dataset = open_dataset(tmp_path, missing="keep")
    assert dataset[0].size_hw == (20, 24)
    assert dataset[0].ground_truth.boxes_xyxy.tolist() == [[1, 2, 11, 8]]


@pytest.mark.parametrize(
    ("changes", "code", "fact"),
    [
        ({"category_id": [7]}, "unknown-label", "'[7]'"),
        ({"category_id": "7"}, "unknown-label", "'7'"),
        ({"image_id": {"a": 1}}, "label-without-image", "{'a': 1}"),
        ({"segmentation": "yes"}, "bad-run-lengths", "'yes'"),
        ({"segmentation": {"counts": "abc"}}, "bad-run-lengths", "size: expected height and width, got None"),
        ({"segmentation": {"counts": "abc", "size": [1e300, 5]}}, "bad-run-lengths", "[1e+300, 5]"),
    ],
)
def test_values_of_any_type_are_one_sentence(draw, tmp_path, changes, code, fact):
    draw("images/a.png")
    entry = {"id": 5, "image_id": 0, "category_id": 3, "bbox": [0, 0, 1, 1]}
    (tmp_path / "annotations.json").write_text(content(annotations=[entry | changes]))
    with raises(f"bad-dataset.{code}", fact) as caught:
        open_dataset(tmp_path)
    assert "\n" not in caught.message


OUTLINE = [2, 2, 12, 2, 12, 9, 2, 9]
PAIRS = [[2, 2], [12, 2], [12, 9], [2, 9]]


@pytest.mark.parametrize("nesting", [[OUTLINE], OUTLINE, PAIRS, [PAIRS], [[OUTLINE]]])
def test_outlines_of_any_nesting_are_read(coco, nesting):
    root = coco([entry(segmentation=nesting, bbox=[2, 2, 10, 7])])
    mask = open_dataset(root)[0].ground_truth.masks[1]
    assert outlines_of(mask)[0].tolist() == [[2, 2], [12, 2], [12, 9], [2, 9]]
    assert not check(root, duplicates=False).of("empty-polygon")


def test_two_outlines_as_points_are_two_parts(coco):
    other = [[14, 10], [20, 10], [20, 16]]
    root = coco([entry(segmentation=[PAIRS, other])])
    assert [len(p) for p in outlines_of(open_dataset(root)[0].ground_truth.masks[1])] == [4, 3]


def test_run_lengths_in_a_list_are_joined(coco):
    def runs(rows, columns):
        mask = np.zeros((20, 24), np.uint8, order="F")
        mask[rows, columns] = 1
        runs = reference.encode(mask)
        return {"size": [20, 24], "counts": runs["counts"].decode()}

    first, second = runs(slice(2, 5), slice(3, 9)), runs(slice(10, 12), slice(3, 9))
    found = open_dataset(coco([entry(segmentation=[first, second])]))
    assert found.task is Task.SEGMENTATION
    assert found[0].ground_truth.masks[1].area == 3 * 6 + 2 * 6
    assert open_dataset(coco([entry(segmentation=[first])]))[0].ground_truth.masks[1].area == 18


def test_rotated_box_of_cvat_becomes_an_outline(coco):
    root = coco([entry(bbox=[4, 8, 12, 4], attributes={"occluded": False, "rotation": 90.0})])
    ground_truth = open_dataset(root)[0].ground_truth
    assert np.allclose(ground_truth.boxes_xyxy[1], [8, 4, 12, 16])
    assert np.allclose(outlines_of(ground_truth.masks[1])[0][0], [12, 4])  # turned clockwise
    unturned = open_dataset(coco([entry(bbox=[4, 8, 12, 4], attributes={"rotation": 0.0})]))
    assert unturned.task is Task.DETECTION


@pytest.mark.parametrize(
    "content", [{"info": {}, "fps": 25}, {"categories": [DENT], "info": {}}, {"images": []}]
)
def test_json_without_the_three_lists_is_not_coco(draw, tmp_path, content):
    draw("images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "classes.txt").write_text("dent\n")
    (tmp_path / "notes.json").write_text(json.dumps(content))
    assert open_dataset(tmp_path).format == "yolo"


def test_file_of_any_name_in_split_folders(draw, tmp_path):
    for split in ("train", "val"):
        draw(f"{split}/{split}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{split}.png", "width": 24, "height": 20}],
            "annotations": [entry()],
            "categories": [DENT],
        }
        (tmp_path / split / f"COCO_{split}_annos.json").write_text(json.dumps(content))
    found = open_dataset(tmp_path)
    assert found.format == "coco"
    assert found.splits == {"train": 1, "val": 1}
    (tmp_path / "val/second.json").write_text((tmp_path / "val/COCO_val_annos.json").read_text())
    with raises("bad-dataset.ambiguous-files", "COCO_val_annos.json", "second.json"):
        open_dataset(tmp_path)


def test_outdated_coco_file_next_to_labelme_files(draw, tmp_path):
    shape = {"label": "dent", "points": [[2, 2], [9, 2], [9, 9]], "shape_type": "polygon"}
    for name in ("a", "b"):
        draw(f"{name}.png")
        (tmp_path / f"{name}.json").write_text(json.dumps({"shapes": [shape], "imagePath": f"{name}.png"}))
    images = [{"id": i, "file_name": f"{n}.png", "width": 24, "height": 20} for i, n in enumerate("ab")]
    content = {"images": images[:1], "annotations": [entry(image_id=0)], "categories": [DENT]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = open_dataset(tmp_path)
    assert (found.format, len(found)) == ("labelme", 2)
    assert any("dataset.json" in n for n in found.notes)
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"images": images}))
    assert open_dataset(tmp_path).format == "coco"
    assert len(check(tmp_path, duplicates=False).of("other-format")) == 1


def test_table_next_to_a_coco_file_is_named(coco):
    root = coco()
    assert not any("claims.csv" in note for note in open_dataset(root).notes)
    (root / "claims.csv").write_text("filename,label\na.png,rust\n")
    found = open_dataset(root)
    assert found.format == "coco"
    assert any("claims.csv" in note for note in found.notes)


def test_panoptic_file_is_refused_by_name(coco):
    root = coco()
    content = json.loads((root / "annotations.json").read_text())
    content["annotations"] = [{"image_id": 1, "file_name": "a.png", "segments_info": []}]
    (root / "annotations.json").write_text(json.dumps(content))
    with raises("bad-dataset.panoptic", "segments_info", "COCO instances"):
        open_dataset(root)


def test_objects_marked_as_crowd_are_counted_and_can_be_read_as_objects(coco):
    runs = {"size": [20, 24], "counts": [40, 10, 430]}
    root = coco([entry(segmentation=runs, iscrowd=1), entry(2, segmentation=runs, iscrowd=1, category_id=2)])
    found = open_dataset(root)
    assert found[0].ground_truth.crowd.tolist() == [False, True, True]
    assert any("2 of 3 objects are marked as crowd" in n and "--crowd objects" in n for n in found.notes)
    finding = check(root, duplicates=False).of("crowd-objects")[0]
    assert "2 of 3" in finding.message
    read = open_dataset(root, crowd="objects")
    assert not read[0].ground_truth.crowd.any()
    assert not check(root, duplicates=False, crowd="objects").of("crowd-objects")
    with raises("unknown-name.value-of-crowd", "'objct'", "objects"):
        open_dataset(root, crowd="objct")


def test_mostly_boxes_among_outlines_is_a_warning(coco):
    root = coco([entry(segmentation=[OUTLINE]), entry(2, bbox=[3, 3, 5, 5])])
    found = check(root, duplicates=False).of("boxes-among-outlines")
    assert "2 of 3 objects" in found[0].message
    assert "--task detection" in found[0].remedy
    assert any("--task detection" in n for n in open_dataset(root).notes)
    assert open_dataset(root, task="detection").task is Task.DETECTION
    assert not check(root, duplicates=False, task="detection").of("boxes-among-outlines")
