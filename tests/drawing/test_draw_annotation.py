"""blemish.drawing.draw_annotation: everything is drawn in its place, and the inputs are not changed."""

import numpy as np
import pytest
from PIL import Image

from blemish.data.synthetic import cells, panels
from blemish.drawing import draw, label_color, place_labels, reduce_image
from blemish.geometry import mask_from_array
from blemish.imaging import LoadedImage
from blemish.structures import GroundTruth, Task
from blemish.testing import raises


def test_draw_box_changes_only_its_outline(count_pixels, labels):
    ground_truth = GroundTruth(
        task=Task.DETECTION,
        labels=labels,
        label_index=np.array([1]),
        size_hw=(500, 600),
        boxes_xyxy=np.array([[100, 200, 400, 350]]),
    )
    for grey in (0, 255):
        photo = np.full((500, 600, 3), grey, np.uint8)
        drawing = draw(ground_truth, photo)
        assert drawing.size == (600, 500) and drawing.mode == "RGB"
        changed = np.asarray(drawing) != photo
        assert changed[:, :, 0][250, 98:103].any() and changed[:, :, 0][349:352, 250].any()
        assert not changed[210:340, 110:390].any()  # a box has no fill
        assert not changed[400:].any() and not changed[:, 450:].any()
        assert count_pixels(drawing, label_color(1)) > 500
        assert photo.min() == photo.max() == grey


def test_draw_mask_fills_it_but_not_its_hole(labels):
    array = np.zeros((480, 640), bool)
    array[100:300, 150:450] = True
    array[180:220, 250:350] = False
    ground_truth = GroundTruth(
        task=Task.SEGMENTATION,
        labels=labels,
        label_index=np.array([2]),
        size_hw=(480, 640),
        boxes_xyxy=np.array([[150, 100, 450, 300]]),
        masks=(mask_from_array(array),),
    )
    photo = np.full((480, 640, 3), 128, np.uint8)
    drawing = np.asarray(draw(ground_truth, photo)).astype(int)
    inside, hole, outside = drawing[250, 200], drawing[200, 300], drawing[400, 500]
    assert outside.tolist() == hole.tolist() == [128, 128, 128]
    assert 10 < np.abs(inside - 128).max() < 80
    assert np.abs(drawing[100, 300] - label_color(2)).max() < 40  # the outline
    assert np.abs(drawing[180, 300] - label_color(2)).max() < 40  # and the hole's


def test_draw_enlarges_small_images_and_thickens_lines_on_large_ones(count_pixels, labels):
    small = next(panels(1, size_hw=(64, 96)))
    assert draw(small.ground_truth, small.image).size == (480, 320)
    assert draw(small.ground_truth, small.image, min_side=96).size == (96, 64)
    ground_truth = GroundTruth(
        task=Task.DETECTION,
        labels=labels,
        label_index=np.array([0]),
        size_hw=(3000, 4000),
        boxes_xyxy=np.array([[1000, 1000, 2000, 2000]]),
    )
    drawing = draw(ground_truth, np.zeros((3000, 4000, 3), np.uint8))
    assert count_pixels(drawing, label_color(0), (950, 1500, 1050, 1501)) >= 8


def test_draw_scales_boxes_to_the_image(count_pixels, labels):
    ground_truth = GroundTruth(
        task=Task.DETECTION,
        labels=labels,
        label_index=np.array([0]),
        size_hw=(300, 400),
        boxes_xyxy=np.array([[100, 100, 200, 200]]),
    )
    drawing = draw(ground_truth, np.zeros((600, 800, 3), np.uint8))
    assert count_pixels(drawing, label_color(0), (300, 198, 310, 203)) > 10
    with raises("bad-input.image-size", "600 x 800", "400 x 300", "EXIF"):
        draw(ground_truth, np.zeros((800, 600, 3), np.uint8))


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_draw_marks_a_prediction_without_detections(task, prediction):
    masks = () if task is Task.SEGMENTATION else None
    photo = np.zeros((480, 640, 3), np.uint8)
    found = prediction(task, [], [], [0, 0, 0], boxes_xyxy=np.zeros((0, 4)), masks=masks, size_hw=(480, 640))
    assert (np.asarray(draw(found, photo)) > 200).any()


def test_draw_accepts_every_type_of_image(tmp_path, prediction):
    panel = next(panels(1))
    path = tmp_path / "p.png"
    panel.image.to_pil().save(path)
    expected = np.asarray(draw(panel.ground_truth, panel.image))
    for image in (panel.image.pixels, panel.image.to_pil(), path, str(path)):
        assert np.array_equal(np.asarray(draw(panel.ground_truth, image)), expected)
    answer = prediction(Task.CLASSIFICATION, [0], [0.8], [0.8, 0.1, 0.1], path=path)
    assert draw(answer).width == answer.plot().width == 480
    assert answer._repr_png_().startswith(b"\x89PNG")
    grey = np.zeros((480, 480), np.uint8)
    assert draw(answer, grey).mode == draw(answer, Image.fromarray(grey)).mode == "RGB"


def test_draw_rejects_other_types(tmp_path):
    ground_truth = next(panels(1)).ground_truth
    with raises("bad-input.no-image", "`image`"):
        draw(ground_truth)
    with raises("bad-input.image-type", "dict"):
        draw(ground_truth, {})
    with raises("bad-input.pixels", "float64"):
        draw(ground_truth, np.zeros((4, 4, 3)))
    with raises("bad-image.no-such-file", "none.png"):
        draw(ground_truth, tmp_path / "none.png")


def test_draw_stretches_dark_16_bit_images():
    cell = next(cells(1, bits=16, size=128))
    dark = LoadedImage((cell.image.pixels >> 6).astype(np.uint16))
    assert np.asarray(draw(cell.ground_truth, dark))[:480].max() == 255


def test_reduce_image_in_bands_equals_reducing_at_once():
    random = np.random.default_rng(0)
    color = random.integers(0, 255, (2100, 703, 3), np.uint8)
    small = reduce_image(LoadedImage(color), 400_000)
    assert small.size_hw == (1050, 352)
    assert np.array_equal(small.pixels, np.asarray(Image.fromarray(color).reduce(2)))
    grey = random.integers(0, 65535, (1100, 300), np.uint16)
    deep = reduce_image(LoadedImage(grey), 40_000)
    assert deep.pixels.dtype == np.uint16
    np.testing.assert_allclose(deep.pixels[0, 0], grey[:3, :3].mean(), atol=1)
    untouched = LoadedImage(color)
    assert reduce_image(untouched, 2100 * 703) is untouched


@pytest.mark.parametrize("size_hw", [(40, 1500), (200, 6000), (1500, 120)])
def test_draw_labels_objects_on_elongated_images(size_hw, monkeypatch, labels):
    placed = []

    def spy(*arguments):
        placed.extend(place_labels(*arguments))
        return placed

    monkeypatch.setattr("blemish.drawing.object_overlay.place_labels", spy)
    height, width = size_hw
    box = np.array([[width / 4, height / 4, width / 2, height / 2]])
    ground_truth = GroundTruth(
        task=Task.DETECTION, labels=labels, size_hw=size_hw, label_index=np.array([1]), boxes_xyxy=box
    )
    draw(ground_truth, np.full((*size_hw, 3), 90, np.uint8))
    assert len(placed) == 1 and placed[0] is not None


def test_draw_scales_masks_and_their_tips_to_the_image(labels, count_pixels, monkeypatch):
    calls = []

    def spy(*arguments):
        calls.append(arguments)
        return place_labels(*arguments)

    monkeypatch.setattr("blemish.drawing.object_overlay.place_labels", spy)
    array = np.zeros((300, 400), bool)
    array[100:120, 50:60] = True  # the highest point is left, the lowest in the middle
    array[120:130, 50:200] = True
    array[130:150, 120:130] = True
    ground_truth = GroundTruth(
        task=Task.SEGMENTATION,
        labels=labels,
        label_index=np.array([0]),
        size_hw=(300, 400),
        boxes_xyxy=np.array([[50, 100, 200, 150]]),
        masks=(mask_from_array(array),),
    )
    drawing = draw(ground_truth, np.zeros((600, 800, 3), np.uint8))
    assert count_pixels(drawing, label_color(0), (150, 237, 350, 243)) > 100  # the upper edge of the bar
    assert count_pixels(drawing, label_color(0), (40, 100, 90, 150)) == 0  # where it would be without scaling
    boxes, _, size_wh, _, tips = calls[0]
    assert size_wh == (800, 600)
    np.testing.assert_allclose(boxes, [[100, 200, 400, 300]])
    assert 90 <= tips[0, 0] <= 125 and 225 <= tips[0, 1] <= 262


def test_draw_puts_the_first_object_on_top(labels, count_pixels):
    for first, second in ((0, 1), (1, 0)):
        ground_truth = GroundTruth(
            task=Task.DETECTION,
            labels=labels,
            label_index=np.array([first, second]),
            size_hw=(480, 640),
            boxes_xyxy=np.array([[100, 100, 300, 300], [300, 100, 500, 300]]),
        )
        drawing = draw(ground_truth, np.zeros((480, 640, 3), np.uint8))
        edge = (298, 150, 302, 250)
        assert count_pixels(drawing, label_color(first), edge) > 100
        assert count_pixels(drawing, label_color(second), edge) == 0


def test_reduce_image_rounds_means_of_16_bits():
    image = LoadedImage(np.array([[1, 1, 2, 2], [1, 0, 3, 2]], np.uint16))
    assert reduce_image(image, 2).pixels.tolist() == [[1, 2]]
