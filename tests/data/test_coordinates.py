"""Annotations are rotated and scaled with their images."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.data.outlines import outlines_of

from blemish.arrays import Mask
from blemish.data import open_dataset
from blemish.data.coordinates import orient, orient_points
from blemish.geometry import mask_box, mask_from_array, mask_to_array
from blemish.imaging import apply_orientation

STORED_HW = (12, 20)


def exif(orientation):
    out = Image.Exif()
    out[0x0112] = orientation
    return out


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orient_matches_pixels_for_boxes_polygons_and_masks(orientation):
    array = np.zeros(STORED_HW, bool)
    array[3:7, 5:16] = array[7:9, 5:8] = True
    box = mask_box(mask_from_array(array))[None]
    outline = np.array([[5.0, 3.0], [16.0, 3.0], [16.0, 7.0], [8.0, 9.0], [5.0, 9.0]])
    boxes, (mask, oriented_polygon) = orient(
        box, [mask_from_array(array), (outline,)], orientation, STORED_HW
    )
    assert isinstance(mask, Mask) and isinstance(oriented_polygon, tuple)
    seen = apply_orientation(array, orientation)
    assert (mask_to_array(mask) == seen).all()
    assert boxes[0].tolist() == mask_box(mask_from_array(np.ascontiguousarray(seen))).tolist()
    corners = np.concatenate([oriented_polygon[0].min(0), oriented_polygon[0].max(0)])
    assert corners.tolist() == boxes[0].tolist()


def test_orient_points_inverse_orientations():
    points = np.random.default_rng(0).uniform(0, 12, (9, 2))
    for orientation in (2, 3, 4, 5, 7):
        height, width = STORED_HW
        after = (width, height) if orientation >= 5 else STORED_HW
        twice = orient_points(orient_points(points, orientation, STORED_HW), orientation, after)
        np.testing.assert_allclose(twice, points)
    back = orient_points(orient_points(points, 6, STORED_HW), 8, STORED_HW[::-1])
    np.testing.assert_allclose(back, points)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("states", ["stored", "upright"])
def test_open_dataset_reads_boxes_on_the_upright_image(tmp_path, orientation, states):
    """The box covers a bright block, whether the labels were drawn on the stored or the upright image."""
    stored = np.zeros((*STORED_HW, 3), np.uint8)
    stored[3:7, 5:16] = 255
    (tmp_path / "images").mkdir()
    Image.fromarray(stored).save(tmp_path / "images/a.png", exif=exif(orientation))
    seen = apply_orientation(stored, orientation)
    height, width = STORED_HW if states == "stored" else seen.shape[:2]
    drawn = stored if states == "stored" else seen
    if states == "stored" and orientation in (2, 3, 4):
        return  # the same size either way: a finding, see test_check
    x1, y1, x2, y2 = mask_box(mask_from_array(drawn[:, :, 0] > 0)).tolist()
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "categories": [{"id": 1, "name": "block"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    sample = open_dataset(tmp_path)[0]
    assert sample.size_hw == seen.shape[:2]
    expected = mask_box(mask_from_array(seen[:, :, 0] > 0))
    np.testing.assert_allclose(sample.ground_truth.boxes_xyxy[0], expected)


def test_open_dataset_scales_labels_of_a_smaller_copy(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (416, 312)).save(tmp_path / "images/a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 150, "width": 200}],
        "categories": [{"id": 1, "name": "block"}],
        "annotations": [
            {
                "id": 1, "image_id": 1, "category_id": 1, "bbox": [100, 75, 100, 75],
                "segmentation": [[100, 75, 200, 75, 200, 150]],
            }
        ],
    }  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = open_dataset(tmp_path)
    ground_truth = dataset[0].ground_truth
    np.testing.assert_allclose(ground_truth.boxes_xyxy, [[208, 156, 416, 312]])
    np.testing.assert_allclose(outlines_of(ground_truth.masks[0])[0], [[208, 156], [416, 156], [416, 312]])
    assert any("another size" in n for n in dataset.notes)
