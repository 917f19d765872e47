"""Checks of labels that were drawn on a rotated image, or on one of another size."""

import re

import pytest
from PIL import Image

from blemish.data import open_dataset
from blemish.data.audit import check


def exif(orientation):
    out = Image.Exif()
    out[0x0112] = orientation
    return out


def test_annotations_not_upright(plant):
    planted = plant("coco")
    path = planted.images()[3]
    stored = Image.open(path).convert("RGB").resize((64, 48))
    stored.save(path, exif=exif(6))

    def change(content):
        image = next(i for i in content["images"] if i["file_name"] == path.name)
        image["width"], image["height"] = 64, 48
        for a in content["annotations"]:
            if a["image_id"] == image["id"]:
                a["bbox"], a["segmentation"] = [4, 8, 20, 12], [[4, 8, 24, 8, 24, 20, 4, 20]]

    planted.coco(change)
    found = check(planted.root)
    twice = {"repeated-object"} & set(found.counts)  # all its objects got the same box
    assert set(found.counts) == {"labels-not-upright", "exif-orientation"} | twice
    assert found.of("labels-not-upright")[0].path == path

    dataset = open_dataset(planted.root)
    sample = next(s for s in dataset if s.path == path)
    assert sample.size_hw == (64, 48)
    assert sample.ground_truth.boxes_xyxy[0].tolist() == [48 - 20, 4, 48 - 8, 24]
    assert any("rotated" in n for n in dataset.notes)


def test_annotations_ambiguous_orientation(plant):
    planted = plant("yolo")
    image = next(p for p in planted.images() if planted.label_of(p).read_text())
    Image.open(image).save(image, exif=exif(3))
    found = check(planted.root)
    assert set(found.counts) == {"orientation-ambiguous", "exif-orientation"}
    assert found.of("orientation-ambiguous")[0].path == image


def scaled_page(text, size=True, boxes=True, factor=0.5):
    if size:
        text = re.sub(r"<(width|height)>64<", lambda m: f"<{m[1]}>{round(64 * factor)}<", text)
    if boxes:
        text = re.sub(
            r"<(xmin|ymin|xmax|ymax)>([\d.]+)<", lambda m: f"<{m[1]}>{max(1, float(m[2]) * factor)}<", text
        )
    return text


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("labels-in-another-scale", {}),
        ("wrong-stated-size", {"boxes": False}),
    ],
)
def test_annotations_other_scale_and_stated_size(plant, code, options):
    planted = plant("voc")
    path = planted.page_with_box()
    path.write_text(scaled_page(path.read_text(), **options))
    assert [(f.code, f.origin) for f in check(planted.root)] == [(code, str(path))]
