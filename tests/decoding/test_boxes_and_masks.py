from typing import Any

import numpy as np
import pytest

from blemish.decoding import DECODERS, DetectionFilter, decode, decoder
from blemish.decoding.dense import select_candidates
from blemish.decoding.mask_grids import mask_over_box, mask_over_input
from blemish.geometry import mask_to_array
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.preprocessing import Placement
from blemish.structures import Task
from blemish.testing import raises

LETTERBOXED = Placement((120, 240), (64, 64), (64 / 240, 64 / 240), (0.0, 16.0))
PLAIN = Placement((64, 64), (64, 64), (1.0, 1.0), (0.0, 0.0))
STRETCHED = Placement((120, 240), (60, 60), (0.25, 0.5), (0.0, 0.0))


def contract(decoder, outputs, task=Task.DETECTION, count=3, **settings):
    return Contract(
        architecture="test",
        task=task,
        labels=tuple(LabelSpec(name=f"l{i}", display_name=f"L {i}") for i in range(count)),
        inputs=(InputSpec(size_hw=(64, 64)),),
        outputs=tuple(OutputSpec(name=n, role=n, activation=a) for n, a in outputs.items()),
        decoder=DecoderSpec(name=decoder, settings=settings),
    )


def inside_box(box, size_hw):
    y, x = np.indices(size_hw) + 0.5
    return (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])


# --- dense -------------------------------------------------------------------------------------------

DENSE = {"boxes": "none", "scores": "probabilities"}


def dense_scene(seed=0, count=400, labels=3):
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(5, 59, (count, 2)), rng.uniform(2, 30, (count, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], 1).astype(np.float32)
    return boxes, rng.uniform(0, 1, (count, labels)).astype(np.float32)


def test_decode_dense_equals_torchvision_postprocessing():
    """Pairs above the minimum score, NMS per label, boxes mapped back and clipped: as torchvision's SSD."""
    torch = pytest.importorskip("torch")
    from torchvision.ops import batched_nms, clip_boxes_to_image

    boxes, scores = dense_scene()
    model_contract = contract("dense", DENSE, min_score=0.3, nms_iou=0.45, max_detections=50)
    (prediction,) = decode(model_contract, {"boxes": boxes[None], "scores": scores[None]}, [STRETCHED])
    row, label = np.nonzero(scores >= 0.3)
    score = torch.from_numpy(scores[row, label])
    keep = batched_nms(torch.from_numpy(boxes[row]), score, torch.from_numpy(label), 0.45)[:50].numpy()
    expected = clip_boxes_to_image(torch.from_numpy(boxes[row][keep] * [4, 2, 4, 2]), (120, 240)).numpy()
    assert len(prediction) == 50
    assert prediction.label_index.tolist() == label[keep].tolist()
    assert prediction.boxes_xyxy == pytest.approx(expected, abs=1e-4)
    assert prediction.scores == pytest.approx(score[keep].numpy(), abs=1e-9)
    assert (np.diff(prediction.scores) <= 0).all()
    assert prediction.label_scores.tolist() == [
        prediction.scores[prediction.label_index == i].max() for i in range(3)
    ]


def test_decode_dense_layouts_are_equivalent():
    boxes, scores = dense_scene(count=200)
    objectness = np.random.default_rng(9).uniform(0, 1, 200).astype(np.float32)
    whole = np.array([64, 64, 64, 64], np.float32)
    centre = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    corner = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    settings = {"min_score": 0.2, "nms_iou": 0.6}
    logits = np.log(scores / (1 - scores))
    pairs: list[tuple[dict[str, str], dict[str, Any], dict[str, np.ndarray]]] = [
        (DENSE, {}, {"boxes": boxes, "scores": scores * objectness[:, None]}),
        (
            {**DENSE, "objectness": "none"},
            {},
            {"boxes": boxes, "scores": scores, "objectness": objectness},
        ),
        (
            {"boxes": "none", "scores": "logits", "objectness": "logits"},
            {"box_format": "cxcywh"},
            {"boxes": centre, "scores": logits, "objectness": np.log(objectness / (1 - objectness))},
        ),
        (
            {"combined": "probabilities"},
            {"objectness": True, "box_format": "xywh", "normalized": True},
            {"combined": np.concatenate([corner / whole, objectness[:, None], scores], 1)},
        ),
        (
            {"combined": "probabilities"},
            {"channels_first": True, "box_format": "cxcywh"},
            {"combined": np.concatenate([centre, scores * objectness[:, None]], 1).T},
        ),
    ]
    answers = [
        decode(
            contract("dense", outputs, **settings, **more),
            {n: a[None].astype(np.float32) for n, a in arrays.items()},
            [LETTERBOXED],
        )[0]
        for outputs, more, arrays in pairs
    ]
    assert len(answers[0]) > 20
    for other in answers[1:]:
        assert other.label_index.tolist() == answers[0].label_index.tolist()
        assert other.boxes_xyxy == pytest.approx(answers[0].boxes_xyxy, abs=1e-3)
        assert other.scores == pytest.approx(answers[0].scores, abs=1e-6)


def test_decode_dense_multi_label():
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    raw = {"boxes": boxes[None], "scores": np.array([[[0.6, 0.9, 0.7]]], np.float32)}
    (many,) = decode(contract("dense", DENSE), raw, [LETTERBOXED])
    (single,) = decode(contract("dense", DENSE, multi_label=False), raw, [LETTERBOXED])
    assert many.label_index.tolist() == [1, 2, 0]
    assert single.label_index.tolist() == [1]


@pytest.mark.parametrize("max_candidates", [1, 7, 50, 119, 120])
def test_select_candidates_of_equal_scores_takes_the_first_rows(max_candidates):
    scores = np.random.default_rng(max_candidates).integers(1, 5, (40, 3)) / 5
    row, label, score = select_candidates(scores, 0.1, multi_label=True, max_candidates=max_candidates)
    best = np.sort(np.argsort(-scores.ravel(), kind="stable")[:max_candidates])
    np.testing.assert_array_equal(row * 3 + label, best)
    np.testing.assert_array_equal(score, scores.ravel()[best])


def test_detection_filter_raises_but_never_lowers_minimum_score():
    boxes, scores = dense_scene()
    raw = {"boxes": boxes[None], "scores": scores[None]}
    model_contract = contract("dense", DENSE, min_score=0.5, nms_iou=0.3)
    (default,) = decode(model_contract, raw, [LETTERBOXED])
    (strict,) = decode(model_contract, raw, [LETTERBOXED], DetectionFilter(min_score=0.9))
    (lax,) = decode(model_contract, raw, [LETTERBOXED], DetectionFilter(min_score=0.1))
    (few,) = decode(model_contract, raw, [LETTERBOXED], DetectionFilter(max_detections=3))
    assert strict.scores.min() >= 0.9
    assert strict.scores.tolist() == default.scores[default.scores >= 0.9].tolist()
    assert lax.scores.tolist() == default.scores.tolist()
    assert few.scores.tolist() == default.scores[:3].tolist()
    with raises("bad-input.max-detections", "got 0"):
        DetectionFilter(max_detections=0)
    with raises("bad-input.min-score", "1.5"):
        DetectionFilter(min_score=1.5)


def test_decode_dense_drops_boxes_in_padding_and_clips_others():
    boxes = np.array([[2, 1, 20, 15], [10, 10, 30, 20]], np.float32)  # the image begins at y = 16
    raw = {"boxes": boxes[None], "scores": np.full((1, 2, 3), 0.9, np.float32)}
    (prediction,) = decode(contract("dense", DENSE, multi_label=False), raw, [LETTERBOXED])
    assert prediction.boxes_xyxy == pytest.approx(np.array([[37.5, 0, 112.5, 15]]), abs=1e-4)


def test_decode_dense_no_candidates():
    boxes, scores = dense_scene()
    raw = {"boxes": boxes[None], "scores": scores[None] * 0}
    (prediction,) = decode(contract("dense", DENSE, min_score=0.05), raw, [LETTERBOXED])
    assert len(prediction) == 0
    assert prediction.boxes_xyxy.shape == (0, 4)
    assert prediction.label_scores.tolist() == [0, 0, 0]
    (prediction,) = decode(contract("dense", DENSE), {n: a[:, :0] for n, a in raw.items()}, [LETTERBOXED])
    assert len(prediction) == 0


def test_decode_dense_image_is_independent_of_batch():
    boxes, scores = dense_scene()
    other_boxes, other_scores = dense_scene(5)
    model_contract = contract("dense", DENSE, min_score=0.3)
    (alone,) = decode(model_contract, {"boxes": boxes[None], "scores": scores[None]}, [LETTERBOXED])
    raw = {"boxes": np.stack([other_boxes, boxes]), "scores": np.stack([other_scores, scores])}
    _, beside = decode(model_contract, raw, [STRETCHED, LETTERBOXED])
    assert (alone.boxes_xyxy == beside.boxes_xyxy).all()
    assert (alone.scores == beside.scores).all()


def test_decode_dense_refuses_nan_boxes_and_wrong_shapes():
    boxes, scores = dense_scene()
    boxes[3] = np.nan
    with raises("bad-model-file.not-finite", "boxes"):
        decode(contract("dense", DENSE), {"boxes": boxes[None], "scores": scores[None]}, [STRETCHED])
    with raises("bad-model-file.output-shape", "3 labels", "(400, 2)"):
        decode(contract("dense", DENSE), {"boxes": boxes[None], "scores": scores[None, :, :2]}, [STRETCHED])


def test_decode_dense_masks_are_products_of_prototypes_inside_box():
    boxes = np.array([[8, 20, 50, 44], [20, 24, 40, 40]], np.float32)
    rng = np.random.default_rng(0)
    prototypes = rng.normal(0, 1, (4, 16, 16)).astype(np.float32)
    coefficients = rng.normal(0, 1, (2, 4)).astype(np.float32)
    outputs = {**DENSE, "coefficients": "none", "prototypes": "none"}
    raw = {
        "boxes": boxes[None],
        "scores": np.array([[[0.9, 0, 0], [0, 0.8, 0]]], np.float32),
        "coefficients": coefficients[None],
        "prototypes": prototypes[None],
    }
    (prediction,) = decode(contract("dense", outputs, Task.SEGMENTATION, min_score=0.1), raw, [LETTERBOXED])
    assert prediction.label_index.tolist() == [0, 1]
    for i, (mask, box) in enumerate(zip(prediction.masks, prediction.boxes_xyxy, strict=True)):
        grid = np.tensordot(coefficients[i], prototypes, 1)
        expected = bilinear(grid, LETTERBOXED) & inside_box(box, (120, 240))
        assert (mask_to_array(mask) != expected).sum() <= 2  # rounding at the threshold
        assert mask.area > 50
    outputs.pop("prototypes")
    with raises("bad-model-file.missing-role", "'prototypes'"):
        decode(contract("dense", outputs, Task.SEGMENTATION), raw, [LETTERBOXED])


def bilinear(grid, placement):
    """Return, for each pixel of the image, whether a grid over the whole input is above 0."""
    height, width = placement.size_hw
    y, x = np.indices((height, width)) + 0.5
    gx = (x * placement.scale_xy[0] + placement.offset_xy[0]) * grid.shape[1] / placement.input_hw[1] - 0.5
    gy = (y * placement.scale_xy[1] + placement.offset_xy[1]) * grid.shape[0] / placement.input_hw[0] - 0.5
    gx, gy = np.clip(gx, 0, grid.shape[1] - 1), np.clip(gy, 0, grid.shape[0] - 1)
    x0, y0 = np.floor(gx).astype(int), np.floor(gy).astype(int)
    x1, y1 = np.minimum(x0 + 1, grid.shape[1] - 1), np.minimum(y0 + 1, grid.shape[0] - 1)
    fx, fy = gx - x0, gy - y0
    top = grid[y0, x0] * (1 - fx) + grid[y0, x1] * fx
    bottom = grid[y1, x0] * (1 - fx) + grid[y1, x1] * fx
    return top * (1 - fy) + bottom * fy > 0


# --- masks -------------------------------------------------------------------------------------------


def test_mask_over_input_equals_torch_interpolation():
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).normal(0, 1, (15, 15)).astype(np.float32)
    box = np.array([13.2, 7.6, 201.5, 99.4])
    mask = mask_to_array(mask_over_input(grid, box, STRETCHED))
    whole = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None], (120, 240), mode="bilinear", align_corners=False
    )
    expected = (whole[0, 0].numpy() > 0) & inside_box(box, (120, 240))
    assert (mask != expected).sum() <= 2
    assert 1000 < mask.sum() < 17_000


@pytest.mark.parametrize("box", [[30.0, 40.0, 90.0, 100.0], [-20.4, -10.2, 60.7, 55.1], [200, 80, 300, 130]])
def test_mask_over_box_equals_detectron2_paste(box):
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).uniform(0, 1, (28, 28)).astype(np.float32)
    whole = np.array(box)
    clipped = np.clip(whole, 0, [240, 120, 240, 120])
    mask = mask_to_array(mask_over_box(grid, whole, clipped, (120, 240)))
    y, x = np.indices((120, 240)) + 0.5
    at = np.stack(
        [
            (x - whole[0]) / (whole[2] - whole[0]) * 2 - 1,
            (y - whole[1]) / (whole[3] - whole[1]) * 2 - 1,
        ],
        -1,
    )
    pasted = torch.nn.functional.grid_sample(
        torch.from_numpy(grid)[None, None].double(), torch.from_numpy(at)[None], align_corners=False
    )
    expected = (pasted[0, 0].numpy() > 0.5) & inside_box(clipped, (120, 240))
    assert (mask != expected).sum() <= 2
    assert mask.sum() > 300


def test_mask_of_box_without_pixel_centers_is_empty():
    grid = np.ones((4, 4), np.float32)
    assert mask_over_input(grid, np.array([10.6, 10.6, 11.4, 11.4]), STRETCHED).area == 0
    assert (
        mask_over_box(grid, np.array([5.0, 5.0, 5.0, 9.0]), np.array([5.0, 5.0, 5.0, 9.0]), (20, 20)).area
        == 0
    )


def test_mask_over_input_is_limited_to_center_crop():
    cropped = Placement((100, 300), (50, 50), (0.5, 0.5), (-50.0, 0.0))
    mask = mask_over_input(np.ones((10, 10), np.float32), np.array([0.0, 0.0, 300.0, 100.0]), cropped)
    assert mask_to_array(mask)[:, 100:200].all()
    assert mask.area == 100 * 100


# --- final -------------------------------------------------------------------------------------------


def final_outputs():
    rng = np.random.default_rng(0)
    return {
        "boxes": np.array([[[4, 20, 20, 40], [30, 10, 60, 60], [0, 0, 64, 64], [9, 9, 9, 9]]], np.float32),
        "scores": np.array([[0.4, 0.9, 0.01, 0.8]], np.float32),
        "labels": np.array([[1, 3, 2, 0]], np.int64),
        "masks": rng.uniform(0, 1, (1, 4, 28, 28)).astype(np.float32),
    }


FINAL = {"boxes": "none", "scores": "probabilities", "labels": "none", "masks": "probabilities"}


def test_decode_final_sorts_filters_and_drops_padding():
    model_contract = contract("final", FINAL, Task.SEGMENTATION, label_offset=1, min_score=0.05)
    raw = final_outputs()
    (prediction,) = decode(model_contract, raw, [LETTERBOXED])
    assert prediction.label_index.tolist() == [2, 0]  # label 0 of the graph is background: padding
    assert prediction.scores == pytest.approx([0.9, 0.4])
    assert prediction.boxes_xyxy == pytest.approx(np.array([[112.5, 0, 225, 120], [15, 15, 75, 90]]))
    # The best box leaves the image: its mask covers the whole box and is then clipped.
    whole = LETTERBOXED.to_image(raw["boxes"][0, 1:2])[0]
    expected = mask_over_box(raw["masks"][0, 1], whole, prediction.boxes_xyxy[0], (120, 240))
    assert prediction.masks[0].counts.tolist() == expected.counts.tolist()
    (few,) = decode(model_contract, raw, [LETTERBOXED], DetectionFilter(max_detections=1))
    assert few.label_index.tolist() == [2]


def test_decode_final_masks_of_logits_equal_masks_of_probabilities():
    raw = final_outputs()
    model_contract = contract("final", FINAL, Task.SEGMENTATION, label_offset=1, min_score=0.05)
    (first,) = decode(model_contract, raw, [LETTERBOXED])
    logits = {**raw, "masks": np.log(raw["masks"] / (1 - raw["masks"]))}
    model_contract = contract(
        "final", {**FINAL, "masks": "logits"}, Task.SEGMENTATION, label_offset=1, min_score=0.05
    )
    (second,) = decode(model_contract, logits, [LETTERBOXED])
    for a, b in zip(first.masks, second.masks, strict=True):
        assert (mask_to_array(a) != mask_to_array(b)).sum() <= 2


def test_mask_over_box_is_close_to_torchvision_paste():
    """torchvision pastes at whole pixels; the overlap with ours is still nearly complete."""
    torch = pytest.importorskip("torch")
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    y, x = np.indices((28, 28))
    grid = np.clip(1.5 - np.hypot(x - 13.5, y - 13.5) / 10, 0, 1).astype(np.float32)
    box = np.array([31.0, 22.0, 187.0, 103.0])
    ours = mask_to_array(mask_over_box(grid, box, box, (120, 240)))
    pasted = paste_masks_in_image(
        torch.from_numpy(grid)[None, None], torch.from_numpy(box[None]).float(), (120, 240)
    )
    theirs = pasted[0, 0].numpy() > 0.5
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97


# --- set ---------------------------------------------------------------------------------------------


def test_decode_set_equals_topk_of_pairs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, (1, 100, 3)).astype(np.float32)
    boxes = rng.uniform(0.3, 0.7, (1, 100, 4)).astype(np.float32) * [1, 1, 0.3, 0.3]
    model_contract = contract("set", {"scores": "logits", "boxes": "none"}, max_detections=40)
    (prediction,) = decode(model_contract, {"scores": logits, "boxes": boxes}, [STRETCHED])
    values, flat = torch.from_numpy(logits).sigmoid().flatten(1).topk(40)
    query, label = flat[0].numpy() // 3, flat[0].numpy() % 3
    assert prediction.label_index.tolist() == label.tolist()
    assert prediction.scores == pytest.approx(values[0].numpy(), abs=1e-6)
    centre, size = boxes[0, query, :2] * (240, 120), boxes[0, query, 2:] * (240, 120)
    assert prediction.boxes_xyxy == pytest.approx(
        np.concatenate([centre - size / 2, centre + size / 2], 1), abs=1e-4
    )


def test_decode_set_softmax_uses_configured_columns():
    logits = np.array([[[0.0, 3.0, 0.0, 1.0, 2.0], [4.0, 0.0, 0.0, 0.0, 0.0]]])
    boxes = np.full((1, 2, 4), 0.5)
    outputs = {"scores": "logits", "boxes": "none"}
    model_contract = contract("set", outputs, score_function="softmax", columns=[1, 3, 4], min_score=0.1)
    (prediction,) = decode(model_contract, {"scores": logits, "boxes": boxes}, [STRETCHED])
    expected = np.exp(logits[0, 0]) / np.exp(logits[0, 0]).sum()
    assert prediction.label_index.tolist() == [0, 2]
    assert prediction.scores == pytest.approx(expected[[1, 4]])
    with raises("bad-model-file.score-columns", "5 columns", "3 labels"):
        decode(contract("set", outputs), {"scores": logits, "boxes": boxes}, [STRETCHED])


def test_decode_set_masks_cover_input():
    logits = np.array([[[5.0, -9.0, -9.0]]])
    boxes = np.array([[[0.5, 0.5, 0.5, 0.25]]])
    grid = np.full((1, 1, 16, 16), -1.0, np.float32)
    grid[..., 8:] = 1.0
    outputs = {"scores": "logits", "boxes": "none", "masks": "logits"}
    model_contract = contract("set", outputs, Task.SEGMENTATION, min_score=0.5)
    (prediction,) = decode(model_contract, {"scores": logits, "boxes": boxes, "masks": grid}, [LETTERBOXED])
    assert prediction.boxes_xyxy == pytest.approx(np.array([[60, 30, 180, 90]]))
    drawn = mask_to_array(prediction.masks[0])
    assert drawn[30:90, 120:180].all()
    assert drawn.sum() == 60 * 60


def test_decode_set_reads_the_first_column_too():
    raw = {
        "scores": np.array([[[0.9, 0.1, 0.2], [0.3, 0.4, 0.8]]], np.float32),
        "boxes": np.array([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]]], np.float32),
    }
    outputs = {"boxes": "none", "scores": "probabilities"}
    model_contract = contract("set", outputs, count=2, columns=[2, 0], min_score=0.5)
    (prediction,) = decode(model_contract, raw, [PLAIN])
    assert prediction.label_index.tolist() == [1, 0]
    assert prediction.scores.tolist() == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize(("width", "kept"), [(11, 1), (9, 2)])
def test_decode_dense_default_nms_iou_is_one_half(width, kept):
    """A box of 20 pixels, and the first 11 or 9 of them."""
    boxes = np.array([[[10, 10, 30, 20], [10, 10, 10 + width, 20]]], np.float32)
    raw = {"boxes": boxes, "scores": np.array([[[0.9, 0, 0], [0.8, 0, 0]]], np.float32)}
    (prediction,) = decode(contract("dense", DENSE, min_score=0.5), raw, [PLAIN])
    assert len(prediction) == kept


def test_mask_over_box_narrower_than_a_pixel_has_the_pixels_whose_center_it_covers():
    box = np.array([3.2, 2.2, 3.9, 6.9])
    mask = mask_to_array(mask_over_box(np.ones((28, 28), np.float32), box, box, (9, 9)))
    expected = np.zeros((9, 9), bool)
    expected[2:7, 3] = True
    assert np.array_equal(mask, expected)


def test_decoder_decodes_masks_unless_it_is_declared():
    decoder("masks-needed")(lambda *_: [])
    try:
        assert not DECODERS.get("masks-needed").decodes_boxes_without_masks
    finally:
        DECODERS.unregister("masks-needed")
