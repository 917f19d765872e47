"""Drawings: what must show shows, labels never collide, and nothing the caller holds is changed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from blemish.data.synthetic import cells, panels
from blemish.drawing import PALETTE, draw, label_colour, place_labels, reduced, side_by_side
from blemish.drawing.palette import PAPER, luminance, percent, readable_on, shortened, text_width
from blemish.errors import BadImage, BadInput
from blemish.geometry import mask_from_array
from blemish.imaging import LoadedImage
from blemish.structures import GroundTruth, Labels, Prediction, Task

LABELS = Labels(("crack", "dent", "chip"), ("Crack", "Dent", "Chip"))


def prediction(task, label_index, scores, label_scores, **rest):
    thresholds = rest.pop("thresholds", np.full(len(LABELS), 0.5))
    return Prediction(
        task=task,
        labels=LABELS,
        label_index=np.array(label_index, np.int64),
        scores=np.array(scores, float),
        label_scores=np.array(label_scores, float),
        thresholds=thresholds,
        **rest,
    )


def shows(picture, colour, window=None, tolerance=12):
    """How many pixels of a colour there are."""
    pixels = np.asarray(picture if window is None else picture.crop(window)).astype(int)
    return int((np.abs(pixels - colour).max(2) <= tolerance).sum())


def test_a_box_is_drawn_where_it_is_and_nowhere_else():
    ground_truth = GroundTruth(
        task=Task.DETECTION,
        labels=LABELS,
        label_index=np.array([1]),
        size_hw=(500, 600),
        boxes_xyxy=np.array([[100, 200, 400, 350]]),
    )
    for grey in (0, 255):
        photo = np.full((500, 600, 3), grey, np.uint8)
        picture = draw(ground_truth, photo)
        assert picture.size == (600, 500) and picture.mode == "RGB"
        changed = np.asarray(picture) != photo
        assert changed[:, :, 0][250, 98:103].any() and changed[:, :, 0][349:352, 250].any()
        assert not changed[210:340, 110:390].any()  # a box has no fill
        assert not changed[400:].any() and not changed[:, 450:].any()
        assert shows(picture, label_colour(1)) > 500
        assert photo.min() == photo.max() == grey


def test_a_mask_is_filled_lightly_and_its_hole_is_not():
    array = np.zeros((480, 640), bool)
    array[100:300, 150:450] = True
    array[180:220, 250:350] = False
    ground_truth = GroundTruth(
        task=Task.SEGMENTATION,
        labels=LABELS,
        label_index=np.array([2]),
        size_hw=(480, 640),
        boxes_xyxy=np.array([[150, 100, 450, 300]]),
        masks=(mask_from_array(array),),
    )
    photo = np.full((480, 640, 3), 128, np.uint8)
    picture = np.asarray(draw(ground_truth, photo)).astype(int)
    inside, hole, outside = picture[250, 200], picture[200, 300], picture[400, 500]
    assert outside.tolist() == hole.tolist() == [128, 128, 128]
    assert 10 < np.abs(inside - 128).max() < 80
    assert np.abs(picture[100, 300] - label_colour(2)).max() < 40  # the outline
    assert np.abs(picture[180, 300] - label_colour(2)).max() < 40  # and the hole's


def test_small_images_are_enlarged_and_large_ones_get_thicker_lines():
    small = next(panels(1, size_hw=(64, 96)))
    assert draw(small.ground_truth, small.image).size == (480, 320)
    assert draw(small.ground_truth, small.image, min_side=96).size == (96, 64)
    ground_truth = GroundTruth(
        task=Task.DETECTION,
        labels=LABELS,
        label_index=np.array([0]),
        size_hw=(3000, 4000),
        boxes_xyxy=np.array([[1000, 1000, 2000, 2000]]),
    )
    picture = draw(ground_truth, np.zeros((3000, 4000, 3), np.uint8))
    assert shows(picture, label_colour(0), (950, 1500, 1050, 1501)) >= 8


def test_a_box_on_an_image_of_another_scale_moves_along():
    ground_truth = GroundTruth(
        task=Task.DETECTION,
        labels=LABELS,
        label_index=np.array([0]),
        size_hw=(300, 400),
        boxes_xyxy=np.array([[100, 100, 200, 200]]),
    )
    picture = draw(ground_truth, np.zeros((600, 800, 3), np.uint8))
    assert shows(picture, label_colour(0), (300, 198, 310, 203)) > 10
    with pytest.raises(BadInput, match=r"600 x 800 .* 400 x 300.*upright"):
        draw(ground_truth, np.zeros((800, 600, 3), np.uint8))


@pytest.mark.parametrize("task", [Task.DETECTION, Task.SEGMENTATION])
def test_nothing_found_is_said(task):
    masks = () if task is Task.SEGMENTATION else None
    photo = np.zeros((480, 640, 3), np.uint8)
    found = prediction(task, [], [], [0, 0, 0], boxes_xyxy=np.zeros((0, 4)), masks=masks, size_hw=(480, 640))
    assert (np.asarray(draw(found, photo)) > 200).any()


def test_the_strip_shows_verdict_scores_and_thresholds():
    photo = np.zeros((480, 640, 3), np.uint8)
    answer = prediction(
        Task.MULTILABEL, [0], [0.9], [0.9, 0.2, 0.0], thresholds=np.array([0.5, 0.3, 0.5]), size_hw=(480, 640)
    )
    picture = draw(answer, photo)
    assert picture.width == 640 and picture.height > 480
    strip = (0, 480, 640, picture.height)
    assert shows(picture, label_colour(0), strip) > 4 * shows(picture, label_colour(1), strip)
    assert shows(picture, label_colour(2), strip) == 0
    assert np.array_equal(np.asarray(picture)[:480], photo)
    other = draw(prediction(Task.CLASSIFICATION, [1], [0.6], [0.3, 0.6, 0.1], size_hw=(480, 640)), photo)
    assert shows(other, label_colour(1), strip) > 500


def test_many_labels_and_long_titles_fit():
    labels = Labels(
        tuple(f"label-{k}" for k in range(40)),
        tuple(f"A very long title of label {k} " * 8 for k in range(40)),
    )
    scores = np.linspace(1, 0, 40) / 20.5
    answer = Prediction(
        task=Task.CLASSIFICATION,
        labels=labels,
        label_index=np.array([0]),
        scores=scores[:1],
        label_scores=scores,
        thresholds=np.full(40, 0.5),
    )
    for width in (40, 480, 2000):
        picture = draw(answer, np.zeros((480, width, 3), np.uint8))
        assert picture.width == width
        assert (np.asarray(picture)[480:, -3:] == PAPER).all()  # nothing runs out of the strip
    ground_truth = GroundTruth(task=Task.MULTILABEL, labels=labels, label_index=np.arange(40))
    assert draw(ground_truth, np.zeros((480, 640, 3), np.uint8)).width == 640


def test_a_ground_truth_without_labels_says_so():
    ground_truth = GroundTruth(task=Task.MULTILABEL, labels=LABELS, label_index=np.zeros(0, np.int64))
    assert draw(ground_truth, np.zeros((480, 640, 3), np.uint8)).height > 480


boxes_strategy = st.lists(
    st.tuples(st.floats(0, 600), st.floats(0, 440), st.floats(0, 300), st.floats(0, 300)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(boxes_strategy, st.lists(st.integers(20, 160), min_size=30, max_size=30))
def test_labels_never_collide_and_never_leave_the_picture(boxes, widths):
    array = np.array([[x, y, min(x + w, 640), min(y + h, 480)] for x, y, w, h in boxes])
    places = place_labels(array, [(w, 20) for w in widths[: len(array)]], (640, 480), 2)
    placed = [p for p in places if p is not None]
    assert placed and places[0] is not None
    for x1, y1, x2, y2 in placed:
        assert 0 <= x1 < x2 <= 640 and 0 <= y1 < y2 <= 480
    for a, b in itertools.combinations(placed, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_label_keeps_off_other_objects_where_it_can():
    boxes = np.array([[100, 100, 300, 200], [100, 40, 300, 98]])  # above the first stands the second
    first, _ = place_labels(boxes, [(80, 20), (80, 20)], (640, 480), 2)
    assert first[1] >= 200


def test_images_of_every_kind_are_taken(tmp_path):
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


def test_what_cannot_be_drawn_on_is_named(tmp_path):
    ground_truth = next(panels(1)).ground_truth
    with pytest.raises(BadInput, match="no image"):
        draw(ground_truth)
    with pytest.raises(BadInput, match="cannot be dict"):
        draw(ground_truth, {})
    with pytest.raises(BadInput, match="pixels are float64"):
        draw(ground_truth, np.zeros((4, 4, 3)))
    with pytest.raises(BadImage, match="no such file"):
        draw(ground_truth, tmp_path / "none.png")


def test_dark_sixteen_bit_images_are_stretched_for_the_eye():
    cell = next(cells(1, bits=16, size=128))
    dark = LoadedImage((cell.image.pixels >> 6).astype(np.uint16))
    assert np.asarray(draw(cell.ground_truth, dark))[:480].max() == 255


def test_pictures_stand_beside_each_other_at_one_height():
    images = [
        Image.new("RGB", (100, 200), (255, 0, 0)),
        Image.new("L", (300, 100)),
        Image.new("RGBA", (50, 50)),
    ]
    row = side_by_side(images, ["one", "a caption that is much too long for a picture this narrow", "three"])
    assert row.height > 200 and row.width > 100 + 600 + 200
    assert shows(row, (255, 0, 0), tolerance=0) == 100 * 200
    assert side_by_side(images).height < row.height
    for wrong in (([], []), (images, ["one"])):
        with pytest.raises(BadInput, match="one caption a picture"):
            side_by_side(*wrong)


# What the eye makes of linear RGB: as it is, and without the long, middle and short cones.
# Source: Machado, Oliveira and Fernandes, 2009, severity 1.
EYES = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def cielab(colour, eye):
    share = np.array(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = np.array(to_xyz) @ np.clip(np.array(EYES[eye]) @ linear, 0, 1) / [0.9505, 1, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", EYES)
def test_the_palette_is_told_apart_by_every_eye(eye):
    for a, b in itertools.combinations(PALETTE, 2):
        assert np.linalg.norm(cielab(a, eye) - cielab(b, eye)) > 15, (a, b)


def test_the_palette_can_be_read():
    for colour in PALETTE:
        light, dark = sorted((luminance(colour), luminance(readable_on(colour))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG's contrast for text
    assert label_colour(len(PALETTE)) == label_colour(0)


def test_texts_are_cut_to_their_room():
    assert shortened("Dent", 20, 500) == "Dent"
    cut = shortened("A very long title indeed", 20, 100)
    assert cut.endswith("...") and text_width(cut, 20) <= 100
    assert shortened("Dent", 20, 1) == ""


@pytest.mark.parametrize(
    ("score", "text"), [(0, "0 %"), (1, "100 %"), (0.994, "99 %"), (0.9951, ">99 %"), (1e-9, "<1 %")]
)
def test_scores_are_never_rounded_to_certainty(score, text):
    assert percent(score) == text


def test_a_large_image_is_reduced_band_by_band_as_all_at_once():
    random = np.random.default_rng(0)
    colour = random.integers(0, 255, (2100, 703, 3), np.uint8)
    small = reduced(LoadedImage(colour), 400_000)
    assert small.size_hw == (1050, 352)
    assert np.array_equal(small.pixels, np.asarray(Image.fromarray(colour).reduce(2)))
    grey = random.integers(0, 65535, (1100, 300), np.uint16)
    deep = reduced(LoadedImage(grey), 40_000)
    assert deep.pixels.dtype == np.uint16
    np.testing.assert_allclose(deep.pixels[0, 0], grey[:3, :3].mean(), atol=1)
    untouched = LoadedImage(colour)
    assert reduced(untouched, 2100 * 703) is untouched


@pytest.mark.parametrize("size_hw", [(40, 1500), (200, 6000), (1500, 120)])
def test_objects_on_a_long_strip_are_named(size_hw, monkeypatch):
    placed = []

    def spy(*asked):
        placed.extend(place_labels(*asked))
        return placed

    monkeypatch.setattr("blemish.drawing.object_overlay.place_labels", spy)
    height, width = size_hw
    box = np.array([[width / 4, height / 4, width / 2, height / 2]])
    ground_truth = GroundTruth(
        task=Task.DETECTION, labels=LABELS, size_hw=size_hw, label_index=[1], boxes_xyxy=box
    )
    draw(ground_truth, np.full((*size_hw, 3), 90, np.uint8))
    assert len(placed) == 1 and placed[0] is not None
