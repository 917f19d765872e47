"""The explainer with a source of gradients whose features are known, and the coordinates of its heatmaps."""

from pathlib import Path

import numpy as np
import pytest

from blemish.explanation import Explainer
from blemish.explanation.faithfulness import CELLS, STEPS, _cell_means, deletion_insertion
from blemish.explanation.heatmap import Heatmap
from blemish.explanation.heatmap_coordinates import ReceptiveGrid, resample, to_image
from blemish.explanation.masked_inference import MaskedPredictor, detection_score
from blemish.imaging import LoadedImage
from blemish.inference import DeviceKind
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, ModelFile, OutputSpec
from blemish.preprocessing import Placement
from blemish.structures import Labels, Prediction, Task
from blemish.testing import raises

WIDE = InputSpec(name="wide", size_hw=(24, 48), resize="letterbox", mean=(0, 0, 0), std=(1, 1, 1))
TALL = InputSpec(name="tall", size_hw=(48, 24), resize="letterbox", mean=(0, 0, 0), std=(1, 1, 1))
IMAGE = LoadedImage(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


class Scores:
    """A network with the same outputs for every image."""

    name, precision, device_kind = "constant", "fp64", DeviceKind.CPU

    def __init__(self, **outputs):
        self.outputs = outputs

    def run(self, feeds):
        count = len(next(iter(feeds.values())))
        return {name: np.repeat(np.asarray(rows)[None], count, 0) for name, rows in self.outputs.items()}


class KnownFeatures:
    """A gradient source that returns given features, and gradients of one in the output's own channel."""

    def __init__(self, features, output_count, grids=None):
        self.features, self.output_count = features, output_count
        self.layers = tuple(features)
        self.grids = grids or {}
        self.near = "not called"

    def receptive_grid(self, layer):
        return self.grids.get(layer)

    def features_and_gradients(self, feeds, selector, near_xyxy=None):
        self.near = near_xyxy
        gradients = []
        for features in self.features.values():
            rows = np.zeros((len(selector), *features.shape))
            rows[:] = selector[:, :, None, None]  # channel k is the gradient of output k
            gradients.append(rows)
        return [np.repeat(f[None], len(selector), 0) for f in self.features.values()], gradients


def model_file(task, inputs, outputs, decoder, labels=2, **fields):
    contract = Contract(
        architecture="test",
        task=task,
        labels=[LabelSpec(name=f"l{i}", display_name=f"L{i}") for i in range(labels)],
        inputs=inputs,
        outputs=[OutputSpec(name=n, role=n, activation=a) for n, a in outputs.items()],
        decoder=DecoderSpec(name=decoder),
        **fields,
    )
    return ModelFile(Path("model.onnx"), contract, "digest", "graph", None)


def one_cell(shape, row, column, channel=1):
    features = np.zeros((2, *shape))
    features[channel, row, column] = 1
    return features


def test_layer_map_uses_the_input_that_the_layer_is_named_after():
    """Cells in the middle of either input are the middle of the image, through two different letterboxes."""
    file = model_file(Task.MULTILABEL, (WIDE, TALL), {"scores": "probabilities"}, "scores")
    source = KnownFeatures({"wide.body": one_cell((6, 12), 2, 5), "tall.body": one_cell((12, 6), 5, 2)}, 2)
    explainer = Explainer(Scores(scores=[0.2, 0.9]), file, gradients=source)
    for layer in source.layers:
        (heatmap,) = explainer.explain(IMAGE, method="hires-cam", layer=layer, faithfulness=False)
        spec = WIDE if layer.startswith("wide") else TALL
        scale = min(spec.size_hw[0] / 40, spec.size_hw[1] / 60)
        x = (22 if spec is WIDE else 10) - (spec.size_hw[1] - 60 * scale) / 2
        y = (10 if spec is WIDE else 22) - (spec.size_hw[0] - 40 * scale) / 2
        assert heatmap.peak_xy == pytest.approx((x / scale, y / scale), abs=1)
        assert heatmap.layer == layer


def test_layers_are_averaged_after_division_by_their_maximum():
    file = model_file(Task.MULTILABEL, (WIDE,), {"scores": "probabilities"}, "scores")
    features = {"first": one_cell((6, 12), 1, 4) * 100, "second": one_cell((6, 12), 4, 8)}
    explainer = Explainer(Scores(scores=[0.2, 0.9]), file, gradients=KnownFeatures(features, 2))
    (heatmap,) = explainer.explain(IMAGE, method="hires-cam", faithfulness=False)
    assert heatmap.layer == "first + second"
    left, right = heatmap.values[:, :30].max(), heatmap.values[:, 30:].max()
    assert left == pytest.approx(right, rel=0.05)


def test_localization_explains_every_coordinate():
    """The map of a box is the average of the maps of its four numbers."""
    file = model_file(Task.LOCALIZATION, (WIDE,), {"box": "none"}, "point", labels=0)
    features = np.zeros((4, 6, 12))
    for coordinate in range(4):
        features[coordinate, 2, 3 * coordinate] = 1
    explainer = Explainer(
        Scores(box=[0.5, 0.5, 0.5, 0.5]), file, gradients=KnownFeatures({"body": features}, 4)
    )
    (heatmap,) = explainer.explain(IMAGE, method="hires-cam", faithfulness=False)
    assert heatmap.label == ""
    row = heatmap.values.max(0)
    assert ((row[1:-1] > row[:-2]) & (row[1:-1] >= row[2:])).sum() + (row[0] > row[1]) >= 3


def test_gradients_of_a_detection_are_taken_near_its_box_in_network_pixels():
    outputs = {"boxes": "none", "scores": "probabilities", "labels": "none"}
    file = model_file(Task.DETECTION, (WIDE,), outputs, "final", thresholds={"l1": 0.5})
    source = KnownFeatures({"body": one_cell((6, 12), 2, 5)}, 2)
    network = Scores(boxes=[[10.0, 6, 22, 18]], scores=[0.9], labels=[1])
    (heatmap,) = Explainer(network, file, gradients=source).explain(
        IMAGE, method="hires-cam", faithfulness=False
    )
    assert source.near == pytest.approx(np.array([[10, 6, 22, 18]]))
    assert heatmap.box_xyxy != (10, 6, 22, 18)  # which is in image pixels


def test_localization_score_is_iou_alone():
    prediction = Prediction(
        task=Task.LOCALIZATION,
        labels=Labels(()),
        size_hw=(40, 60),
        label_index=np.array([0]),
        boxes_xyxy=np.array([[0, 0, 10, 10]]),
        scores=np.array([0.25]),
        label_scores=np.zeros(0),
        thresholds=np.zeros(0),
    )
    assert detection_score(np.array([0.0, 0, 10, 20]), 0)(prediction) == 0.5


@pytest.mark.parametrize("size_hw", [(40, 60), (60, 40)])
def test_to_image_equals_plain_loop(size_hw):
    """Different scales, offsets and receptive grids along both axes."""
    grid = np.random.default_rng(0).normal(size=(5, 7))
    placement = Placement(size_hw, (30, 90), (0.7, 1.9), (-3.0, 5.0))
    receptive_grid = ReceptiveGrid((0.05, 0.11), (0.21, 0.13))
    for cells in (receptive_grid, None):
        heatmap = to_image(grid, placement, cells)
        used = cells or ReceptiveGrid((0.1, 0.5 / 7), (0.2, 1 / 7))
        for row in range(0, size_hw[0], 3):
            for column in range(0, size_hw[1], 3):
                y = ((row + 0.5) * 1.9 + 5) / 30
                x = ((column + 0.5) * 0.7 - 3) / 90
                expected = 0.0
                if 0 <= y <= 1 and 0 <= x <= 1:
                    at = np.clip((y - used.start_yx[0]) / used.stride_yx[0], 0, 4)
                    across = np.clip((x - used.start_yx[1]) / used.stride_yx[1], 0, 6)
                    down_weights = np.maximum(1 - np.abs(np.arange(5) - at), 0)
                    across_weights = np.maximum(1 - np.abs(np.arange(7) - across), 0)
                    expected = down_weights @ grid @ across_weights
                assert heatmap[row, column] == pytest.approx(expected, abs=1e-6)


def test_even_receptive_grid_of_map_that_is_not_square():
    even = ReceptiveGrid.even((4, 8))
    assert even.start_yx == (1 / 8, 1 / 16)
    assert even.stride_yx == (1 / 4, 1 / 8)


def test_predict_masked_uses_receptive_grid_of_masks():
    spec = InputSpec(size_hw=(24, 48), mean=(0, 0, 0), std=(1, 1, 1))

    class Visible:
        """Scores label 0 by the values left of column 12."""

        name, precision, device_kind = "left", "fp64", DeviceKind.CPU

        def run(self, feeds):
            score = feeds["image"][:, 0, :, :12].mean((1, 2))
            return {"scores": np.stack([score, 1 - score], 1)}

    pixels = np.zeros((24, 48, 3), np.uint8)
    pixels[:, :12] = 255
    file = model_file(Task.MULTILABEL, (spec,), {"scores": "probabilities"}, "scores")
    masked = MaskedPredictor(Visible(), file.contract, LoadedImage(pixels))
    mask = np.array([[[1.0, 0.0]]])  # one row of two cells

    def score(prediction):
        return float(prediction.label_scores[0])

    over_image = masked.predict_masked(mask, score)[0]
    left = masked.predict_masked(mask, score, receptive_grid=ReceptiveGrid((0.5, 0.0), (1, 0.01)))[0]
    assert left < 0.6 < over_image  # cells close together at the left edge hide almost everything


@pytest.mark.parametrize("size_hw", [(56, 56), (112, 168), (100, 75), (57, 200)])
def test_cell_means_equal_plain_loop(size_hw):
    values = np.random.default_rng(0).normal(size=size_hw)
    means = _cell_means(values)
    rows, columns = (np.linspace(0, n, CELLS + 1).astype(int) for n in size_hw)
    for i in range(0, CELLS, 5):
        for j in range(0, CELLS, 5):
            cell = values[
                rows[i] : max(rows[i + 1], rows[i] + 1), columns[j] : max(columns[j + 1], columns[j] + 1)
            ]
            assert means[i, j] == pytest.approx(cell.mean())


def test_deletion_insertion_hides_and_shows_highest_values_first():
    """The heatmap is high in the upper third, which alone has the score; its transpose is not equivalent."""
    spec = InputSpec(size_hw=(48, 48), mean=(0, 0, 0), std=(1, 1, 1))

    class Upper:
        name, precision, device_kind = "upper", "fp64", DeviceKind.CPU

        def run(self, feeds):
            score = feeds["image"][:, 0, :12].mean((1, 2))
            return {"scores": np.stack([score, 1 - score], 1)}

    pixels = np.zeros((48, 48, 3), np.uint8)
    pixels[:12] = 255
    file = model_file(Task.MULTILABEL, (spec,), {"scores": "probabilities"}, "scores")
    masked = MaskedPredictor(Upper(), file.contract, LoadedImage(pixels))
    heatmap = np.repeat(np.linspace(1, 0, 48)[:, None], 48, 1)
    deletion, insertion = deletion_insertion(masked, lambda p: float(p.label_scores[0]), heatmap)
    assert masked.num_forward_passes == 2 * STEPS
    mean = pixels.mean() / 255
    assert insertion == pytest.approx(1 - (1 - mean) / 8, abs=0.02)
    assert deletion == pytest.approx(mean + (1 - mean) / 8, abs=0.02)


def test_resample_to_other_shape():
    grid = np.array([[0.0, 1.0]])
    assert resample(grid, (2, 4)).tolist() == [[0.0, 0.25, 0.75, 1.0]] * 2


def test_heatmap_peak_is_center_of_pixel(tmp_path):
    values = np.zeros((4, 6), np.float32)
    values[1, 4] = 2.0
    values[3, 0] = -5.0
    heatmap = Heatmap(method="rise", label="l0", label_index=0, layer="", values=values, score=0.5)
    assert heatmap.peak_xy == (4.5, 1.5)
    assert heatmap.normalized().max() == 1.0
    assert heatmap.normalized().min() == 0.0
    fields = heatmap.to_dict()
    assert (fields["peak_xy"], fields["peak"], fields["layer"], fields["forward_passes"]) == (
        [4.5, 1.5],
        2.0,
        None,
        0,
    )
    with raises("bad-input.no-pixels"):
        heatmap.plot()
