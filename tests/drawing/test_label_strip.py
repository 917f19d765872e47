"""blemish.drawing.label_strip: scores, thresholds and names on a strip, and images in a row."""

import numpy as np
from PIL import Image

from blemish.drawing import draw, label_color, side_by_side
from blemish.drawing.palette import BACKGROUND
from blemish.structures import GroundTruth, Labels, Prediction, Task
from blemish.testing import raises


def test_strip_shows_decision_scores_and_thresholds(count_pixels, prediction):
    photo = np.zeros((480, 640, 3), np.uint8)
    answer = prediction(
        Task.MULTILABEL, [0], [0.9], [0.9, 0.2, 0.0], thresholds=np.array([0.5, 0.3, 0.5]), size_hw=(480, 640)
    )
    drawing = draw(answer, photo)
    assert drawing.width == 640 and drawing.height > 480
    strip = (0, 480, 640, drawing.height)
    assert count_pixels(drawing, label_color(0), strip) > 4 * count_pixels(drawing, label_color(1), strip)
    assert count_pixels(drawing, label_color(2), strip) == 0
    assert np.array_equal(np.asarray(drawing)[:480], photo)
    other = draw(prediction(Task.CLASSIFICATION, [1], [0.6], [0.3, 0.6, 0.1], size_hw=(480, 640)), photo)
    assert count_pixels(other, label_color(1), strip) > 500


def test_strip_fits_many_labels_and_long_names():
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
        drawing = draw(answer, np.zeros((480, width, 3), np.uint8))
        assert drawing.width == width
        assert (np.asarray(drawing)[480:, -3:] == BACKGROUND).all()  # no text reaches the border of the strip
    ground_truth = GroundTruth(task=Task.MULTILABEL, labels=labels, label_index=np.arange(40))
    assert draw(ground_truth, np.zeros((480, 640, 3), np.uint8)).width == 640


def test_strip_of_a_ground_truth_without_labels(labels):
    ground_truth = GroundTruth(task=Task.MULTILABEL, labels=labels, label_index=np.zeros(0, np.int64))
    assert draw(ground_truth, np.zeros((480, 640, 3), np.uint8)).height > 480


def test_side_by_side_scales_to_one_height(count_pixels):
    images = [
        Image.new("RGB", (100, 200), (255, 0, 0)),
        Image.new("L", (300, 100)),
        Image.new("RGBA", (50, 50)),
    ]
    row = side_by_side(images, ["one", "a caption that is too long for an image of this width", "three"])
    assert row.height > 200 and row.width > 100 + 600 + 200
    assert count_pixels(row, (255, 0, 0), tolerance=0) == 100 * 200
    assert side_by_side(images).height < row.height
    for wrong in (([], []), (images, ["one"])):
        with raises("bad-input.captions", len(wrong[0]), len(wrong[1])):
            side_by_side(*wrong)


def test_strip_marks_each_threshold_on_its_bar(prediction):
    image = np.zeros((480, 640, 3), np.uint8)
    ticks = []
    for threshold in (0.2, 0.4):
        answer = prediction(
            Task.MULTILABEL,
            [0, 1, 2],
            [0.9, 0.9, 0.9],
            [0.9, 0.9, 0.9],
            thresholds=np.array([threshold, 0.3, 0.3]),
        )
        ticks.append(np.asarray(draw(answer, image)).astype(int))
    columns = np.flatnonzero((ticks[0] != ticks[1]).any(axis=(0, 2)))
    assert len(columns) and columns[-1] - columns[0] > 40  # a tick has moved by a fifth of the bar


def test_strip_fills_each_bar_up_to_its_score(prediction, count_pixels):
    image = np.zeros((480, 640, 3), np.uint8)
    low, high = (
        count_pixels(
            draw(
                prediction(Task.MULTILABEL, [0], [s], [s, 0.0, 0.0], thresholds=np.array([0.3, 0.5, 0.5])),
                image,
            ),
            label_color(0),
        )
        for s in (0.45, 0.9)
    )
    assert 1.8 < high / low < 2.2


def test_strip_lists_labels_by_descending_score(prediction):
    image = np.zeros((480, 640, 3), np.uint8)
    strip = np.asarray(draw(prediction(Task.MULTILABEL, [2], [0.9], [0.1, 0.4, 0.9]), image))[480:].astype(
        int
    )
    rows = np.flatnonzero((np.abs(strip - label_color(2)).max(2) <= 2).any(1))
    assert len(rows) and rows.max() < 0.55 * strip.shape[0]  # the bars of two more labels follow
