"""Boxes of portrait, landscape and square images, in inputs of any shape; and the limits on detections."""

import numpy as np
import pytest

from blemish.decoding import DetectionFilter, decode
from blemish.decoding.box_predictions import to_image_pixels
from blemish.decoding.dense import select_candidates
from blemish.decoding.mask_grids import mask_over_input
from blemish.geometry import mask_to_array
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.preprocessing import Placement, place
from blemish.structures import Task
from blemish.testing import raises

SIZES = [(120, 240), (240, 120), (90, 90)]
SPECS = [
    InputSpec(size_hw=(64, 64), resize="letterbox"),
    InputSpec(size_hw=(48, 64), resize="letterbox"),
    InputSpec(size_hw=(64, 48), resize="letterbox"),
    InputSpec(size_hw=(40, 60)),
    InputSpec(size_hw=(60, 40)),
    InputSpec(size_hw=(56, 56), resize="shortest", resize_to=64),
]
EVERY_INPUT = pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.resize}-{s.size_hw}")
EVERY_SIZE = pytest.mark.parametrize("size_hw", SIZES, ids=str)
PORTRAIT = Placement((240, 120), (64, 64), (64 / 240, 64 / 240), (16.0, 0.0))


def contract(decoder, outputs, task=Task.DETECTION, **fields):
    settings = fields.pop("settings", {})
    return Contract(
        architecture="test",
        task=task,
        labels=tuple(LabelSpec(name=f"l{i}", display_name=f"L {i}") for i in range(3)),
        inputs=(InputSpec(size_hw=(64, 64)),),
        outputs=tuple(OutputSpec(name=n, role=n, activation=a) for n, a in outputs.items()),
        decoder=DecoderSpec(name=decoder, settings=settings),
        **fields,
    )


DENSE = {"boxes": "none", "scores": "probabilities"}
FINAL = {"boxes": "none", "scores": "probabilities", "labels": "none"}


def decode_dense(boxes, scores, placement=PORTRAIT, detection_filter=None, **fields):
    raw = {"boxes": np.array([boxes], np.float32), "scores": np.array([scores], np.float32)}
    (prediction,) = decode(
        contract("dense", DENSE, **fields), raw, [placement], detection_filter or DetectionFilter()
    )
    return prediction


@EVERY_INPUT
@EVERY_SIZE
@pytest.mark.parametrize("normalized", [False, True])
def test_to_image_pixels_clips_each_side_at_its_own_edge(spec, size_hw, normalized):
    height, width = size_hw
    placement = place(size_hw, spec)
    boxes = np.array([[-9, -9, width + 9, height + 9], [5, 7, 20, 30], [width - 30, 8, width + 5, 20]])
    network = placement.to_network(boxes)
    if normalized:
        network /= np.tile(spec.size_hw[::-1], 2)
    expected = [[0, 0, width, height], [5, 7, 20, 30], [width - 30, 8, width, 20]]
    assert to_image_pixels(network, placement, normalized=normalized) == pytest.approx(np.array(expected))


@EVERY_INPUT
@EVERY_SIZE
def test_decoded_boxes_are_inside_image_of_any_shape(spec, size_hw):
    """Every decoder of boxes returns a box that covers the image, and one in its lower right corner."""
    height, width = size_hw
    placement = place(size_hw, spec)
    boxes = np.array([[-20, -20, width + 20, height + 20], [width - 40, height - 30, width + 1, height + 1]])
    network = placement.to_network(boxes).astype(np.float32)[None]
    expected = np.array([[0, 0, width, height], [width - 40, height - 30, width, height]])
    scores = np.array([[[0.9, 0, 0], [0, 0.8, 0]]], np.float32)
    (dense,) = decode(
        contract("dense", DENSE, settings={"min_score": 0.1}),
        {"boxes": network, "scores": scores},
        [placement],
    )
    raw = {"boxes": network, "scores": np.array([[0.9, 0.8]]), "labels": np.array([[0, 1]])}
    (final,) = decode(contract("final", FINAL), raw, [placement])
    settings = {"min_score": 0.1, "box_format": "xyxy", "normalized": False}
    (detr,) = decode(
        contract("set", DENSE, settings=settings), {"boxes": network, "scores": scores}, [placement]
    )
    for prediction in (dense, final, detr):
        assert prediction.boxes_xyxy == pytest.approx(expected, abs=1e-3)
        assert prediction.size_hw == size_hw


@EVERY_SIZE
@pytest.mark.parametrize("grid_hw", [(16, 16), (12, 20), (20, 12)], ids=str)
@EVERY_INPUT
def test_mask_over_input_of_any_shape_equals_interpolation(spec, size_hw, grid_hw):
    """Compared with a bilinear look-up at every pixel, without the restriction to the box."""
    height, width = size_hw
    placement = place(size_hw, spec)
    grid = np.random.default_rng(0).normal(0, 1, grid_hw).astype(np.float32)
    y, x = np.indices(size_hw) + 0.5
    columns = (x * placement.scale_xy[0] + placement.offset_xy[0]) * grid_hw[1] / spec.size_hw[1]
    rows = (y * placement.scale_xy[1] + placement.offset_xy[1]) * grid_hw[0] / spec.size_hw[0]
    is_inside = (columns >= 0) & (columns < grid_hw[1]) & (rows >= 0) & (rows < grid_hw[0])
    columns = np.clip(columns - 0.5, 0, grid_hw[1] - 1)
    rows = np.clip(rows - 0.5, 0, grid_hw[0] - 1)
    x0, y0 = np.floor(columns).astype(int), np.floor(rows).astype(int)
    x1, y1 = np.minimum(x0 + 1, grid_hw[1] - 1), np.minimum(y0 + 1, grid_hw[0] - 1)
    fx, fy = columns - x0, rows - y0
    values = (grid[y0, x0] * (1 - fx) + grid[y0, x1] * fx) * (1 - fy)
    values += (grid[y1, x0] * (1 - fx) + grid[y1, x1] * fx) * fy
    visible = placement.to_image(np.array([[0, 0, *spec.size_hw[::-1]]]))[0]
    visible = np.clip([*np.ceil(visible[:2]), *np.floor(visible[2:])], 0, [width, height, width, height])
    for corners in (
        [10.4, 12.6, 71.2, 66.9],
        [width - 33.3, height - 20.2, width, height],
        [0, 0, width, height],
    ):
        box = np.clip(corners, np.tile(visible[:2], 2), np.tile(visible[2:], 2))
        left, top, right, bottom = box
        is_in_box = (x >= left) & (x < right) & (y >= top) & (y < bottom) & is_inside
        mask = mask_to_array(mask_over_input(grid, np.array(box, float), placement))
        assert (mask != ((values > 0) & is_in_box))[np.abs(values) > 1e-3].sum() == 0


def test_mask_over_input_pixels_at_threshold_are_not_in_mask():
    placement = Placement((20, 20), (20, 20), (1.0, 1.0), (0.0, 0.0))
    box = np.array([2.0, 2.0, 10.0, 10.0])
    assert mask_over_input(np.zeros((5, 5), np.float32), box, placement).area == 0
    assert mask_over_input(np.full((5, 5), 0.5, np.float32), box, placement, threshold=0.5).area == 0
    assert mask_over_input(np.full((5, 5), 0.6, np.float32), box, placement, threshold=0.5).area == 64


def test_nms_ignores_boxes_in_padding():
    """A box in the padding has a higher score and overlaps a visible box, but is not in the image."""
    hidden, visible = [0, 10, 16, 50], [0, 10, 18, 50]  # the image starts at x = 16
    prediction = decode_dense([hidden, visible], [[0.9, 0, 0], [0.8, 0, 0]], settings={"min_score": 0.1})
    assert prediction.scores == pytest.approx([0.8])


def test_nms_compares_whole_boxes_and_not_their_visible_parts():
    """The visible parts of both boxes are equal; the whole boxes overlap by a third."""
    boxes = [[10, 10, 20, 20], [-20, 10, 20, 20]]
    prediction = decode_dense(boxes, [[0.9, 0, 0], [0.8, 0, 0]], settings={"min_score": 0.1})
    assert prediction.scores == pytest.approx([0.9, 0.8])
    assert prediction.boxes_xyxy[0].tolist() == prediction.boxes_xyxy[1].tolist() == [0, 37.5, 15, 75]


def test_minimum_score_of_contract_applies_without_setting_of_decoder():
    boxes, scores = [[20, 10, 30, 20]] * 2, [[0.5, 0, 0], [0, 0.25, 0]]
    assert decode_dense(boxes, scores, min_score=0.3).scores.tolist() == [0.5]
    assert decode_dense(boxes, scores, min_score=0.3, settings={"min_score": 0.2}).scores.tolist() == [
        0.5,
        0.25,
    ]


@pytest.mark.parametrize("decoder", ["dense", "set", "final"])
def test_detection_at_minimum_score_is_kept(decoder):
    boxes = np.array([[[20, 10, 30, 20], [40, 10, 44, 20]]], np.float32)
    if decoder == "final":
        raw = {"boxes": boxes, "scores": np.array([[0.5, 0.499]]), "labels": np.array([[0, 1]])}
        outputs = FINAL
    else:
        raw = {"boxes": boxes, "scores": np.array([[[0.5, 0, 0], [0, 0.499, 0]]])}
        outputs = DENSE
    settings = {"min_score": 0.5, "box_format": "xyxy", "normalized": False}
    (prediction,) = decode(contract(decoder, outputs, settings=settings), raw, [PORTRAIT])
    assert prediction.scores.tolist() == [0.5]


@pytest.mark.parametrize("decoder", ["dense", "set", "final"])
def test_maximum_number_of_detections(decoder):
    """The default is 300; the contract and the caller set other numbers; hidden boxes do not count."""
    count = 400
    x = np.linspace(17, 47, count)
    boxes = np.stack([x, np.full(count, 5), x + 0.05, np.full(count, 6)], 1).astype(np.float32)
    boxes[:10, [0, 2]] = [2, 12]  # in the padding, with the highest scores
    scores = np.linspace(0.9, 0.5, count)
    if decoder == "final":
        raw: dict[str, np.ndarray] = {
            "boxes": boxes[None],
            "scores": scores[None],
            "labels": np.zeros((1, count), int),
        }
        outputs = FINAL
    else:
        raw = {"boxes": boxes[None], "scores": np.stack([scores, scores * 0, scores * 0], 1)[None]}
        outputs = DENSE

    def found(limit=None, **settings):
        settings |= {"min_score": 0.1, "box_format": "xyxy", "normalized": False}
        (prediction,) = decode(
            contract(decoder, outputs, settings=settings),
            raw,
            [PORTRAIT],
            DetectionFilter(max_detections=limit),
        )
        assert prediction.scores == pytest.approx(scores[10 : 10 + len(prediction)])
        return len(prediction)

    assert found() == 300
    assert found(max_detections=7) == 7
    assert found(3, max_detections=7) == 3
    assert found(9, max_detections=7) == 9


def test_temperature_divides_logits_of_detectors():
    logits = np.array([[[2.0, -3.0, 0.5]]])
    expected = 1 / (1 + np.exp(-logits[0, 0] / 2))
    for decoder in ("dense", "set"):
        outputs = {"boxes": "none", "scores": "logits"}
        raw = {"boxes": np.array([[[20, 10, 30, 20]]], np.float32), "scores": logits}
        settings = {"box_format": "xyxy", "normalized": False}
        (prediction,) = decode(
            contract(decoder, outputs, temperature=2.0, settings=settings), raw, [PORTRAIT]
        )
        assert prediction.label_scores == pytest.approx(expected)


def test_select_candidates_keeps_highest_scores_in_order_of_rows():
    scores = np.array([[0.2, 0.9], [0.8, 0.1], [0.3, 0.7]])
    row, label, score = select_candidates(scores, 0.15, multi_label=True, max_candidates=3)
    assert list(zip(row.tolist(), label.tolist(), score.tolist(), strict=True)) == [
        (0, 1, 0.9),
        (1, 0, 0.8),
        (2, 1, 0.7),
    ]


def test_decode_final_drops_labels_beyond_the_last():
    raw = {
        "boxes": np.array([[[20, 10, 30, 20]] * 5], np.float32),
        "scores": np.array([[0.9, 0.8, 0.7, 0.6, 0.5]]),
        "labels": np.array([[0, 1, 3, 4, 5]]),
    }
    (prediction,) = decode(contract("final", FINAL, settings={"label_offset": 1}), raw, [PORTRAIT])
    assert prediction.label_index.tolist() == [0, 2]


@pytest.mark.parametrize("normalized", [False, True])
@EVERY_SIZE
@EVERY_INPUT
def test_decode_final_masks_cover_their_boxes_in_inputs_of_any_shape(spec, size_hw, normalized):
    placement = place(size_hw, spec)
    network = placement.to_network(np.array([[20, 30, 60, 70]])).astype(np.float32)
    if normalized:
        network = network / np.tile(spec.size_hw[::-1], 2)
    grid = np.zeros((28, 28), np.float32)
    grid[:, 14:] = 0.6
    raw = {
        "boxes": network[None],
        "scores": np.array([[0.9]]),
        "labels": np.array([[1]]),
        "masks": grid[None, None],
    }
    outputs = {**FINAL, "masks": "probabilities"}

    def area(**settings):
        settings |= {"normalized": normalized}
        (prediction,) = decode(
            contract("final", outputs, Task.SEGMENTATION, settings=settings), raw, [placement]
        )
        mask = mask_to_array(prediction.masks[0])
        assert not mask[:, :39].any()
        return mask.sum()

    left, right, top, bottom = 40, 60, 30, 70
    assert area() == pytest.approx((right - left) * (bottom - top), rel=0.1)
    assert area(mask_threshold=0.7) == 0


def test_decode_set_refuses_column_after_the_last():
    outputs = {"scores": "logits", "boxes": "none"}
    raw = {"scores": np.zeros((1, 2, 5)), "boxes": np.zeros((1, 2, 4))}
    with raises("bad-model-file.score-columns", "[1, 3, 5]"):
        decode(contract("set", outputs, settings={"columns": [1, 3, 5]}), raw, [PORTRAIT])


@EVERY_SIZE
@pytest.mark.parametrize("grid_hw", [(12, 12), (8, 14)], ids=str)
def test_decode_label_maps_masks_cover_stretched_image(size_hw, grid_hw):
    """The map of the detection's own label, laid over the whole image and cut to the box."""
    height, width = size_hw
    placement = place(size_hw, SPECS[0])
    maps = np.full((1, 3, *grid_hw), -1.0, np.float32)
    maps[0, 2, grid_hw[0] // 2 :] = 1.0  # label 2 is positive in the lower half
    box = np.array([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]])
    raw = {
        "boxes": placement.to_network(box).astype(np.float32)[None],
        "scores": np.array([[[0, 0, 0.9]]], np.float32),
        "label_maps": maps,
    }
    outputs = {**DENSE, "label_maps": "logits"}
    settings = {"boxes": "dense", "min_score": 0.1}
    (prediction,) = decode(
        contract("label-maps", outputs, Task.SEGMENTATION, settings=settings), raw, [placement]
    )
    mask = mask_to_array(prediction.masks[0])
    rows, columns = np.nonzero(mask)
    assert [columns.min(), columns.max() + 1] == pytest.approx([0.25 * width, 0.75 * width], abs=1)
    assert [rows.min(), rows.max() + 1] == pytest.approx([0.5 * height, 0.75 * height], abs=1)
    assert mask.sum() == pytest.approx(0.5 * width * 0.25 * height, rel=0.05)
    settings = {"boxes": "no-such-decoder"}
    with raises("bad-model-file.box-decoder", "'no-such-decoder'"):
        decode(contract("label-maps", outputs, Task.SEGMENTATION, settings=settings), raw, [placement])
