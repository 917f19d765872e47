"""blemish.data.formats.labelstudio_format: JSON and JSON-MIN of Label Studio."""

import json

import numpy as np
import pytest

from blemish.data import open_dataset
from blemish.data.audit import check
from blemish.geometry import mask_to_array
from blemish.structures import Task
from blemish.testing import check_format, raises

SIZE = {"original_width": 24, "original_height": 20}
RECTANGLE = {"x": 25, "y": 10, "width": 50, "height": 40, "rotation": 0}


def result(kind="rectanglelabels", number="r1", labels=("dent",), **value):
    value = {**(value or RECTANGLE), kind: list(labels)}
    return {**SIZE, "image_rotation": 0, "id": number, "type": kind, "value": value, "to_name": "image"}


def task(*results, image="/data/upload/1/a.png", **more):
    return {"id": 7, "data": {"image": image}, "annotations": [{"result": list(results)}]} | more


@pytest.fixture
def project(draw, tmp_path):
    """A function that writes an image and the tasks, and returns the folder."""

    def one(*tasks, images=("a.png",), name="project-1.json"):
        for image in images:
            draw(image)
        (tmp_path / name).write_text(json.dumps(tasks))
        return tmp_path

    return one


def pack(mask):
    """Encode a mask as the brush of Label Studio does, in runs of equal values."""
    values = np.repeat(mask.reshape(-1), 4) * 255
    bits = [f"{len(values):032b}", f"{7:05b}", *(f"{w - 1:04b}" for w in (4, 8, 12, 16))]
    start = 0
    while start < len(values):
        length = 1
        while start + length < len(values) and values[start + length] == values[start] and length < 60000:
            length += 1
        bits += ["1", "11", f"{length - 1:016b}", f"{values[start]:08b}"]
        start += length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/a.png",
        "/data/upload/1/90fbe21c-a.png",
        "/data/local-files/?d=photos%2Fa.png",
        "s3://bucket/photos/a.png",
        "https://example.org/photos/a.png?token=1",
    ],
)
def test_rectangles_in_percent_and_addresses_of_images(project, image):
    found = open_dataset(project(task(result(), image=image)))
    assert (found.format, found.task, found.labels.names) == ("labelstudio", Task.DETECTION, ("dent",))
    assert np.allclose(found[0].ground_truth.boxes_xyxy, [[6, 2, 18, 10]])


def test_image_with_a_prefix_of_its_own_is_preferred(project):
    root = project(task(result(), image="/x/90fbe21c-a.png"), images=("a.png", "90fbe21c-a.png"))
    assert open_dataset(root)[0].path.name == "90fbe21c-a.png"


def test_rotation_is_clockwise_about_the_upper_left_corner(project):
    turned = result(x=50, y=10, width=25, height=10, rotation=90)
    found = open_dataset(project(task(turned)))
    # 6 x 2 pixels at (12, 2), turned by 90 degrees: to the left of the corner and below it.
    assert np.allclose(found[0].ground_truth.boxes_xyxy, [[10, 2, 12, 8]])


def test_polygons_and_ellipses(project):
    polygon = result("polygonlabels", points=[[25, 10], [75, 10], [75, 50]])
    ellipse = result("ellipselabels", "e", ("rust",), x=50, y=50, radiusX=25, radiusY=10, rotation=0)
    found = open_dataset(project(task(polygon, ellipse)))
    assert found.task is Task.SEGMENTATION
    assert np.allclose(found[0].ground_truth.boxes_xyxy, [[6, 2, 18, 10], [6, 8, 18, 12]], atol=0.1)


def test_brush_masks_are_decoded(project):
    mask = np.zeros((20, 24), np.uint8)
    mask[3:9, 5:17] = 1
    mask[12, 2] = 1
    brush = result("brushlabels", format="rle", rle=pack(mask))
    found = open_dataset(project(task(brush)))
    assert (mask_to_array(found[0].ground_truth.masks[0]) == (mask > 0)).all()


@pytest.mark.parametrize("rle", [None, [], [1, 2, 3], [300], ["a"], pack(np.ones((4, 4), np.uint8))[:-3]])
def test_damaged_brush_masks_are_reported(project, rle):
    root = project(task(result("brushlabels", format="rle", rle=rle), result(number="r2")))
    with raises("bad-dataset.bad-box", "project-1.json: task 7: region 0"):
        open_dataset(root)


def test_choices_are_labels_of_images(project):
    def choice(*names):
        return {"type": "choices", "value": {"choices": list(names)}}

    root = project(task(choice("dent")), task(choice("ok"), image="b.png"), images=("a.png", "b.png"))
    found = open_dataset(root)
    assert (found.task, found.labels.names) == (Task.CLASSIFICATION, ("dent", "ok"))
    root = project(task(choice("dent", "rust")), task(choice("ok"), image="b.png"))
    assert open_dataset(root).task is Task.MULTILABEL


def test_geometry_and_label_in_two_results_of_one_region(project):
    shape = {**SIZE, "id": "r", "type": "rectangle", "value": RECTANGLE}
    label = {**SIZE, "id": "r", "type": "labels", "value": RECTANGLE | {"labels": ["dent"]}}
    found = open_dataset(project(task(shape, label)))
    assert found[0].ground_truth.label_names == ("dent",)


def test_tasks_without_annotation_and_with_cancelled_ones_are_counted(project):
    unlabeled = {"id": 8, "data": {"image": "b.png"}, "annotations": []}
    cancelled = task(result(), image="c.png")
    cancelled["annotations"][0]["was_cancelled"] = True
    found = open_dataset(project(task(result()), unlabeled, cancelled, images=("a.png", "b.png", "c.png")))
    assert len(found) == 1
    assert any(n.startswith("2 tasks have no annotation") for n in found.notes)


def test_annotations_of_two_persons_that_differ_are_an_error(project):
    both = task(result())
    both["annotations"].append({"result": [result(labels=("rust",))]})
    root = project(both)
    with raises("bad-dataset.contradicting-labels", "task 7", "ground truth"):
        open_dataset(root)
    both["annotations"][1]["ground_truth"] = True
    assert open_dataset(project(both))[0].ground_truth.label_names == ("rust",)
    both["annotations"] = both["annotations"][:1] * 2
    assert len(open_dataset(project(both))[0].ground_truth) == 1


def test_minimal_json(project):
    boxes = [RECTANGLE | SIZE | {"rectanglelabels": ["dent"]}]
    tasks = [
        {"id": 1, "annotation_id": 3, "image": "/data/upload/1/a.png", "label": boxes},
        {"id": 2, "annotation_id": 4, "image": "/data/upload/1/b.png"},
    ]
    found = open_dataset(project(*tasks, images=("a.png", "b.png")))
    assert [len(s.ground_truth) for s in found] == [1, 0]
    assert np.allclose(found[0].ground_truth.boxes_xyxy, [[6, 2, 18, 10]])


def test_several_labels_of_one_region_are_reported(project):
    root = project(task(result(labels=("dent", "rust"))))
    with raises("bad-dataset.several-labels", "region 0", "dent, rust"):
        open_dataset(root)
    assert len(check(root, duplicates=False).of("several-labels")) == 1


def test_keypoints_are_counted(project):
    keypoint = result("keypointlabels", "k", x=5, y=5, width=1)
    found = open_dataset(project(task(result(), keypoint)))
    assert len(found[0].ground_truth) == 1
    assert any("1 shapes of type keypoint" in n for n in found.notes)


def test_other_lists_are_not_tasks(draw, tmp_path):
    draw("dent/a.png")
    draw("rust/b.png")
    (tmp_path / "list.json").write_text("[1, 2, 3]")
    assert open_dataset(tmp_path).format == "folders"


def test_format_suite(project, tmp_path):
    tasks = [task(result(), image=f"{n}.png", id=i) for i, n in enumerate("ab")]
    root = project(*tasks, images=("set/a.png", "set/b.png"), name="set/tasks.json")
    check_format("labelstudio", tmp_path / "suite", example=root / "set")
