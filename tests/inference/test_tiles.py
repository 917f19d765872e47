from typing import Any

import numpy as np
import pytest

from blemish.geometry import mask_to_array, pairwise_iou
from blemish.imaging import LoadedImage
from blemish.inference import DeviceKind, Predictor, Tiling
from blemish.model_file import InputSpec, OutputSpec
from blemish.structures import Task
from blemish.testing import raises

MAX_BOXES = 40


class BrightRectangles:
    """A network that detects bright rectangles: red ones are label 0, green ones label 1."""

    name, precision, device_kind = "bright", "fp32", DeviceKind.CPU

    def __init__(self):
        self.batches = []

    def run(self, feeds):
        ndimage = pytest.importorskip("scipy.ndimage")
        images = feeds["image"]
        self.batches.append(len(images))
        boxes = np.zeros((len(images), MAX_BOXES, 4), np.float32)
        scores = np.zeros((len(images), MAX_BOXES), np.float32)
        labels = np.full((len(images), MAX_BOXES), -1, np.int64)
        masks = np.ones((len(images), MAX_BOXES, 28, 28), np.float32)
        for i, image in enumerate(images):
            row = 0
            for label in (0, 1):
                areas, _ = ndimage.label(image[label] > 0.5)
                for rows, columns in ndimage.find_objects(areas):
                    boxes[i, row] = [columns.start, rows.start, columns.stop, rows.stop]
                    size = (rows.stop - rows.start) * (columns.stop - columns.start)
                    scores[i, row] = 0.5 + 0.4 * min(size / 10_000, 1)
                    labels[i, row] = label
                    row += 1
        return {"boxes": boxes, "scores": scores, "labels": labels, "masks": masks}


def predictor(tiny, task=Task.SEGMENTATION, side=100):
    roles = ["boxes", "scores", "labels", "masks"]
    model_contract = tiny.contract(
        task,
        inputs=(
            InputSpec(size_hw=(side, side), resize="letterbox", pad_value=0, mean=(0, 0, 0), std=(1, 1, 1)),
        ),
        outputs=tuple(OutputSpec(name=r, role=r, activation="probabilities") for r in roles),
        decoder={"name": "final"},
        min_score=0.1,
    )
    return Predictor(BrightRectangles(), model_contract, readers=2)


def painted(size_hw, *rectangles):
    pixels = np.zeros((*size_hw, 3), np.uint8)
    for label, (x1, y1, x2, y2) in rectangles:
        pixels[y1:y2, x1:x2, label] = 255
    return LoadedImage(pixels)


@pytest.mark.parametrize("size_hw", [(100, 100), (99, 301), (1000, 333), (101, 101), (5, 5), (30, 4000)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_tiling_regions_cover_image_with_overlap(size_hw, overlap):
    tiling = Tiling(size=100, overlap=overlap)
    regions = tiling.regions(size_hw)
    seen = np.zeros(size_hw, int)
    for x1, y1, x2, y2 in regions:
        assert 0 <= x1 < x2 <= size_hw[1]
        assert 0 <= y1 < y2 <= size_hw[0]
        assert x2 - x1 == min(100, size_hw[1])
        assert y2 - y1 == min(100, size_hw[0])
        seen[y1:y2, x1:x2] += 1
    assert seen.min() >= 1
    for axis in (0, 1):
        starts = np.unique(regions[:, axis])
        assert (np.diff(starts) <= 100 * (1 - overlap) + 1).all()


def test_predict_tiled_objects_across_borders_are_merged(tiny):
    drawn = [
        (0, (10, 10, 40, 30)),  # in one tile
        (0, (60, 50, 130, 70)),  # across one border
        (1, (20, 120, 390, 135)),  # across four tiles
        (1, (85, 85, 95, 95)),  # where four tiles overlap
        (0, (300, 160, 395, 290)),  # in a corner, of two tiles' height
    ]
    model = predictor(tiny)
    image = painted((300, 400), *drawn)
    answer = model.predict_tiled(image, Tiling(size=100, overlap=0.3, whole=False), batch_size=4)
    assert answer.size_hw == (300, 400)
    assert len(answer) == len(drawn)
    assert (np.diff(answer.scores) <= 0).all()
    for label, box in drawn:
        ious = pairwise_iou(np.array([box], float), answer.boxes_xyxy)[0]
        assert ious.max() == 1.0
        assert answer.label_index[ious.argmax()] == label
        mask = mask_to_array(answer.masks[ious.argmax()])
        expected = np.zeros((300, 400), bool)
        expected[box[1] : box[3], box[0] : box[2]] = True
        assert (mask & expected).sum() / (mask | expected).sum() > 0.93  # 28 x 28 masks fade at their edge
    assert max(model.backend.batches) == 4


def test_predict_tiled_small_piece_at_border_is_merged(tiny):
    """One tile ends 4 pixels into the object: a sliver there, the whole of it in the next tile."""
    regions = Tiling(size=100, overlap=0.3).regions((100, 170))
    edge = int(regions[0, 2])
    image = painted((100, 170), (0, (edge - 4, 20, edge + 40, 60)))
    answer = predictor(tiny).predict_tiled(image, Tiling(size=100, overlap=0.3, whole=False))
    assert answer.boxes_xyxy.tolist() == [[edge - 4, 20, edge + 40, 60]]


def test_predict_tiled_neighbors_of_one_label_stay_separate(tiny):
    image = painted((100, 170), (0, (72, 20, 80, 60)), (0, (84, 20, 96, 60)))
    answer = predictor(tiny).predict_tiled(image, Tiling(size=100, overlap=0.3))
    assert sorted(answer.boxes_xyxy[:, 0].tolist()) == [72, 84]  # from the tiles, not from the whole image


def test_predict_tiled_labels_are_not_merged(tiny):
    image = painted((100, 170), (0, (60, 20, 110, 60)), (1, (60, 20, 110, 60)))
    answer = predictor(tiny).predict_tiled(image, Tiling(size=100, overlap=0.3, whole=False))
    assert sorted(answer.label_index.tolist()) == [0, 1]


def test_predict_tiled_object_larger_than_tile(tiny):
    """An object larger than every tile, of which the tiles show pieces, is one detection."""
    image = painted((400, 400), (0, (40, 40, 360, 360)))
    answer = predictor(tiny).predict_tiled(image, Tiling(size=100, overlap=0.2))
    assert len(answer) == 1
    assert answer.boxes_xyxy[0] == pytest.approx([40, 40, 360, 360], abs=4)


def test_predict_tiled_single_tile_equals_predict(tiny):
    model = predictor(tiny)
    image = painted((80, 90), (0, (10, 10, 40, 30)), (1, (50, 50, 60, 60)))
    tiled = model.predict_tiled(image, Tiling(size=100))
    plain = model.predict(image)
    assert tiled.boxes_xyxy == pytest.approx(plain.boxes_xyxy)
    assert tiled.scores.tolist() == plain.scores.tolist()
    assert [m.counts.tolist() for m in tiled.masks] == [m.counts.tolist() for m in plain.masks]


def test_predict_tiled_max_detections_is_per_image(tiny):
    drawn = [(0, (x, y, x + 10, y + 10)) for x in range(5, 380, 60) for y in (20, 150)]
    image = painted((200, 400), *drawn)
    steps = []
    answer = predictor(tiny, Task.DETECTION).predict_tiled(
        image,
        Tiling(size=100),
        max_detections=5,
        on_tiles=lambda done, total: steps.append((done, total)),
    )
    assert len(answer) == 5
    assert answer.masks is None
    assert steps[-1][0] == steps[-1][1] > 8
    all_detections = predictor(tiny, Task.DETECTION).predict_tiled(image, Tiling(size=100, whole=False))
    assert len(all_detections) == len(drawn)


def test_predict_tiled_max_detections_does_not_drop_pieces(tiny):
    """The best object is cut in both tiles, and in the first tile another object has a higher score."""
    image = painted((100, 170), (0, (2, 5, 55, 95)), (0, (60, 5, 170, 95)))
    tiling = Tiling(size=100, overlap=0.3, whole=False)
    prediction = predictor(tiny, Task.DETECTION).predict_tiled(image, tiling, max_detections=1)
    assert prediction.boxes_xyxy.tolist() == [[60, 5, 170, 95]]


def test_predict_tiled_16_bits(tiny):
    pixels = np.zeros((100, 250), np.uint16)
    pixels[20:60, 60:140] = 65535
    answer = predictor(tiny).predict_tiled(LoadedImage(pixels), Tiling(size=100, overlap=0.3, whole=False))
    assert answer.boxes_xyxy.tolist() == [[60, 20, 140, 60]] * 2  # gray is red and green


def test_predict_tiled_no_objects_and_impossible_tiles(tiny):
    answer = predictor(tiny).predict_tiled(painted((150, 150)), Tiling(size=100))
    assert len(answer) == 0
    assert answer.boxes_xyxy.shape == (0, 4)
    with raises("bad-input.tile-size", "got 8"):
        Tiling(size=8)
    with raises("bad-input.tile-overlap", "got 1"):
        Tiling(size=100, overlap=1.0)


def test_predict_tiled_refuses_model_without_detections(tiny, tmp_path):
    model = tiny.write_scores_model(tmp_path / "m.onnx")
    from blemish.inference import load

    with raises("wrong-task.needs-detections", "classification"):
        load(model.path).predict_tiled(painted((50, 50)), Tiling(size=32))


def test_evaluate_in_tiles_finds_small_objects(tiny, tmp_path):
    from PIL import Image

    from blemish.evaluation import evaluate
    from blemish.structures import Dataset, GroundTruth, Sample

    model_contract = predictor(tiny, Task.DETECTION)
    size_hw, spots = (400, 400), [(20, 30, 26, 36), (200, 340, 207, 348)]
    path = tmp_path / "large.png"
    Image.fromarray(painted(size_hw, *[(0, spot) for spot in spots]).pixels).save(path)
    ground_truth = GroundTruth(
        task=Task.DETECTION,
        labels=model_contract.labels,
        size_hw=size_hw,
        label_index=np.zeros(2, np.int64),
        boxes_xyxy=np.array(spots, float),
    )
    sample = Sample(id="large.png", path=path, size_hw=size_hw, ground_truth=ground_truth)
    dataset = Dataset(task=Task.DETECTION, labels=model_contract.labels, samples=(sample,), root=tmp_path)
    how: dict[str, Any] = {"intervals": False, "thumbnails": False}
    whole = evaluate(model_contract, dataset, **how)
    report = evaluate(model_contract, dataset, tiling=Tiling(100), **how)
    assert report.metrics["ap"].value == 1.0 > whole.metrics["ap"].value
    assert any("tiles of 100 pixels" in warning.text for warning in report.warnings)
    assert not any("tiles" in warning.text for warning in whole.warnings)
