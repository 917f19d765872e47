"""Perturbation methods and the explainer on models whose heatmaps are known in closed form."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.explanation import EXPLAINERS, Explainer, ExplanationMethod, Requirement, register_method
from blemish.explanation.faithfulness import deletion_insertion
from blemish.explanation.masked_inference import MaskedPredictor, detection_score, label_score
from blemish.explanation.methods.class_activation import eigen_cam, grad_cam, hires_cam, layer_cam
from blemish.explanation.methods.perturbation import occlusion, rise, score_cam
from blemish.imaging import LoadedImage
from blemish.inference import DeviceKind
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, ModelFile, OutputSpec
from blemish.structures import Task
from blemish.testing import raises

SIDE = 24
SPEC = InputSpec(size_hw=(SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1))


def contract(task=Task.MULTILABEL, labels=2, activation="probabilities", inputs=(SPEC,), **fields):
    return Contract(
        architecture="linear",
        task=task,
        labels=[LabelSpec(name=f"l{i}", display_name=f"L{i}") for i in range(labels)],
        inputs=inputs,
        outputs=[OutputSpec(name="scores", role="scores", activation=activation)],
        decoder=DecoderSpec(name="scores"),
        **fields,
    )


class Linear:
    """score of label k = the sum of weights[k] * the first input's first channel."""

    name, precision, device_kind = "linear", "fp64", DeviceKind.CPU

    def __init__(self, weights, bias=0.0):
        self.weights, self.bias, self.batches = np.asarray(weights), bias, []

    def run(self, feeds):
        plane = next(iter(feeds.values()))[:, 0].astype(np.float64)
        self.batches.append(len(plane))
        return {"scores": np.tensordot(plane, self.weights, ((1, 2), (1, 2))) + self.bias}


def random_image(seed=0, size_hw=(SIDE, SIDE)):
    return LoadedImage(np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8))


def spot(row, column, size=6):
    weights = np.zeros((SIDE, SIDE))
    weights[row : row + size, column : column + size] = 1 / size**2
    return weights


def test_occlusion_of_linear_model_equals_closed_form():
    """Hiding cells removes weight x (image - mean), and each cell is hidden by four windows."""
    image, generator = random_image(), np.random.default_rng(1)
    weights = generator.normal(size=(2, SIDE, SIDE)) / SIDE**2
    masked = MaskedPredictor(Linear(weights, bias=0.5), contract(), image, batch_size=7)
    side = 8
    ours = occlusion(masked, label_score(0), max_evals=(side + 1) ** 2 + 1)
    assert masked.num_forward_passes == (side + 1) ** 2 + 1
    plane = image.pixels[..., 0] / 255
    # the mask over the network's input, computed pixel by pixel
    grid = np.zeros((side, side))
    for row in range(-1, side):
        for column in range(-1, side):
            mask = np.ones((side, side))
            mask[max(row, 0) : row + 2, max(column, 0) : column + 2] = 0
            up = np.array([[bilinear(mask, y, x) for x in range(SIDE)] for y in range(SIDE)])
            fall = (weights[0] * (plane - plane.mean()) * (1 - up)).sum()
            grid += fall * (1 - mask)
    np.testing.assert_allclose(ours, grid / 4, atol=1e-7)
    assert np.ptp(ours) > 1e-4


def bilinear(mask, y, x):
    at = [np.clip((v + 0.5) / SIDE * len(mask) - 0.5, 0, len(mask) - 1) for v in (y, x)]
    low = [int(np.floor(a)) for a in at]
    high = [min(v + 1, len(mask) - 1) for v in low]
    fy, fx = at[0] - low[0], at[1] - low[1]
    top = mask[low[0], low[1]] * (1 - fx) + mask[low[0], high[1]] * fx
    bottom = mask[high[0], low[1]] * (1 - fx) + mask[high[0], high[1]] * fx
    return top * (1 - fy) + bottom * fy


def bright_spot(row, column):
    pixels = np.full((SIDE, SIDE, 3), 60, np.uint8)
    pixels[row : row + 6, column : column + 6] = 250
    return LoadedImage(pixels)


@pytest.mark.parametrize("method", ["occlusion", "rise"])
@pytest.mark.parametrize(("row", "column"), [(2, 14), (15, 4)])
def test_heatmap_peaks_where_score_depends_on_image(method, row, column):
    masked = MaskedPredictor(Linear([spot(row, column), spot(9, 9)]), contract(), bright_spot(row, column))
    find = occlusion if method == "occlusion" else rise
    values = find(masked, label_score(0), max_evals=400)
    peak = np.array(np.unravel_index(values.argmax(), values.shape)) + 0.5
    y, x = peak / values.shape[0] * SIDE
    assert row - 1 <= y <= row + 7 and column - 1 <= x <= column + 7
    assert masked.num_forward_passes <= 400


def test_rise_is_reproducible_and_converges():
    """E[score | cell shown] - E[score] is proportional to the smoothed weight x contrast."""
    image, weights = random_image(2), np.stack([spot(3, 3, 9), spot(9, 9)])
    masked = MaskedPredictor(Linear(weights), contract(), image, batch_size=256)
    values = rise(masked, label_score(0), max_evals=4000)
    again = rise(masked, label_score(0), max_evals=4000)
    assert np.array_equal(values, again), "the seed decides"
    other = rise(masked, label_score(0), max_evals=4000, seed=1)
    assert np.corrcoef(values.ravel(), other.ravel())[0, 1] > 0.9
    assert abs(values.mean()) < 0.05 * np.abs(values).max()


def test_score_cam_weights_relevant_channel():
    image = bright_spot(3, 13)
    features = np.zeros((3, 6, 6))
    features[0, 0:2, 3:5] = 2  # over the spot
    features[1, 4:6, 0:2] = 2  # elsewhere
    masked = MaskedPredictor(Linear([spot(3, 13), spot(9, 9)]), contract(), image)
    values = score_cam(masked, label_score(0), features)
    assert masked.num_forward_passes == 2, "a constant channel needs no forward pass"
    assert values[0, 3] > 2 * values[5, 0] > 0
    assert not score_cam(masked, label_score(0), np.zeros((3, 6, 6))).any()


def test_deletion_insertion_prefers_correct_heatmap():
    image = bright_spot(3, 13)
    masked = MaskedPredictor(Linear([spot(3, 13), spot(9, 9)]), contract(), image)
    right, wrong = spot(3, 13), spot(15, 2)
    good, bad = (deletion_insertion(masked, label_score(0), m) for m in (right, wrong))
    assert good[0] < bad[0] and good[1] > bad[1]
    # hidden first and shown first are mirror images of hidden last and shown last
    mirrored = deletion_insertion(masked, label_score(0), -right)
    assert mirrored[0] > good[0] and mirrored[1] < good[1]


def test_occlusion_of_uniform_image_is_zero():
    image = LoadedImage(np.full((SIDE, SIDE, 3), 99, np.uint8))
    masked = MaskedPredictor(Linear(np.ones((2, SIDE, SIDE)) / SIDE**2), contract(), image)
    np.testing.assert_allclose(occlusion(masked, label_score(0)), 0, atol=1e-7)


def test_predict_masked_masks_every_input():
    inputs = (SPEC, InputSpec(name="small", size_hw=(12, 12), mean=(0, 0, 0), std=(1, 1, 1)))

    class Both(Linear):
        def run(self, feeds):
            large, small = feeds["image"][:, 0], feeds["small"][:, 0]
            hidden = [np.abs(x - x.mean((1, 2), keepdims=True)).sum((1, 2)) for x in (large, small)]
            return {"scores": np.stack([h / (1 + h) for h in hidden], 1)}

    masked = MaskedPredictor(
        Both(np.zeros((2, SIDE, SIDE))), contract(inputs=inputs), random_image(4, (48, 48))
    )
    shown = masked.predict_masked(np.stack([np.ones((4, 4)), np.zeros((4, 4))]), label_score(0))
    also = masked.predict_masked(np.stack([np.ones((4, 4)), np.zeros((4, 4))]), label_score(1))
    assert shown[0] > 0.5 and also[0] > 0.5
    assert shown[1] == pytest.approx(0, abs=1e-3) == also[1]


def test_predict_masked_batch_sizes():
    backend = Linear([spot(3, 3), spot(9, 9)])
    occlusion(
        MaskedPredictor(backend, contract(), random_image(), batch_size=32), label_score(0), max_evals=100
    )
    assert max(backend.batches) == 32
    backend.batches.clear()
    fixed = contract(dynamic_batch=False)
    occlusion(MaskedPredictor(backend, fixed, random_image(), batch_size=32), label_score(0), max_evals=100)
    assert set(backend.batches) == {1}


def test_class_activation_of_linear_head_equals_closed_form():
    """Global mean pooling and a linear layer: the gradient is weight / places, everywhere the same."""
    generator = np.random.default_rng(0)
    features, weight = generator.random((5, 4, 3)), generator.normal(size=5)
    gradients = np.broadcast_to((weight / 12)[:, None, None], features.shape)
    score = (features.mean((1, 2)) * weight).sum()
    expected = np.maximum(np.tensordot(weight, features, 1) / 12, 0)
    np.testing.assert_allclose(grad_cam(features, gradients), expected)
    np.testing.assert_allclose(hires_cam(features, gradients), expected)
    assert (features * gradients).sum() == pytest.approx(score), "HiResCAM adds up to the score"
    positive = np.tensordot(np.maximum(weight, 0), features, 1) / 12
    np.testing.assert_allclose(layer_cam(features, gradients), positive)


def test_eigen_cam_of_one_pattern():
    pattern = np.random.default_rng(0).random((4, 5))
    features = np.array([1.0, 2.0, 0.5])[:, None, None] * pattern
    ours = eigen_cam(features)
    above = np.maximum(pattern - pattern.mean(), 0)
    np.testing.assert_allclose(ours / ours.max(), above / above.max(), atol=1e-9)


class Detector:
    """A detector with a dent whose score is the brightness of one corner, and a scratch in another corner."""

    name, precision, device_kind = "detector", "fp64", DeviceKind.CPU

    def run(self, feeds):
        plane = next(iter(feeds.values()))[:, 0]
        sight = plane[:, 3:9, 13:19].mean((1, 2))
        boxes = np.broadcast_to(np.array([[13, 3, 19, 9], [2, 15, 8, 21]], np.float32), (len(plane), 2, 4))
        scores = np.stack([sight, plane[:, 15:21, 2:8].mean((1, 2))], 1).astype(np.float32)
        labels = np.broadcast_to(np.array([0, 1]), (len(plane), 2))
        return {"boxes": boxes, "scores": scores, "labels": labels}


def detector_file():
    made = Contract(
        architecture="detector",
        task=Task.DETECTION,
        labels=[
            LabelSpec(name="dent", display_name="Dent"),
            LabelSpec(name="scratch", display_name="Scratch"),
        ],
        inputs=(SPEC,),
        outputs=[
            OutputSpec(name="boxes", role="boxes"),
            OutputSpec(name="scores", role="scores", activation="probabilities"),
            OutputSpec(name="labels", role="labels"),
        ],
        decoder=DecoderSpec(name="final"),
        thresholds={"dent": 0.5, "scratch": 0.5},
    )
    return ModelFile(Path("model.onnx"), made, "digest", "graph", None)


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_explain_each_detection_by_its_own_place(method, tmp_path):
    image = bright_spot(3, 13)
    image.pixels.setflags(write=True)
    image.pixels[15:21, 2:8] = 200
    path = tmp_path / "p.png"
    image.to_pil().save(path)
    explainer = Explainer(Detector(), detector_file())
    found = explainer.explain(path, method=method, max_evals=300)
    assert [f.label for f in found] == ["dent", "scratch"]
    for one in found:
        x1, y1, x2, y2 = one.box_xyxy
        x, y = one.peak_xy
        assert x1 - 2 <= x <= x2 + 2 and y1 - 2 <= y <= y2 + 2
        assert one.insertion > one.deletion
    only = explainer.explain(path, method=method, max_evals=300, label="scratch", faithfulness=False)
    assert [f.label for f in only] == ["scratch"] and only[0].deletion is None
    np.testing.assert_array_equal(only[0].values, found[1].values)


def test_explain_refuses_impossible_options():
    explainer = Explainer(Detector(), detector_file())
    with raises("wrong-task.needs-gradients", "grad-cam", "occlusion", "model.onnx"):
        explainer.explain(b"", method="grad-cam")
    with raises("unknown-name.explanation-method", "'gradcam'", "'grad-cam'"):
        explainer.explain(b"", method="gradcam")
    with raises("unknown-name.label", "'dents'", "'dent'"):
        explainer.explain(b"", method="rise", label="dents")
    with raises("bad-input.max-evals", "got 1"):
        explainer.explain(b"", method="rise", max_evals=1)
    with raises("bad-input.max-targets", "got 0"):
        explainer.explain(b"", method="rise", max_targets=0)
    assert explainer.default_method() == "occlusion"


def test_max_forward_passes_is_respected(tmp_path):
    path = tmp_path / "p.png"
    bright_spot(3, 13).to_pil().save(path)
    explainer = Explainer(Detector(), detector_file())
    done: list[Any] = []
    found = explainer.explain(path, method="rise", max_evals=50, progress=done.append)
    assert all(one.forward_passes <= explainer.max_forward_passes("rise", 50) for one in found)
    assert sum(done) == 1 + sum(one.forward_passes for one in found)
    assert explainer.max_forward_passes("occlusion", faithfulness=False) == 256


def test_detection_score_is_iou_times_score(tmp_path):
    masked = MaskedPredictor(Detector(), detector_file().contract, bright_spot(3, 13))
    prediction = masked.predict()
    score = prediction.label_scores[0]
    assert detection_score(np.array([13.0, 3, 19, 9]), 0)(prediction) == pytest.approx(score, abs=1e-6)
    half = detection_score(np.array([13.0, 3, 19, 6]), 0)(prediction)
    assert half == pytest.approx(score / 2, abs=1e-6)
    assert detection_score(np.array([13.0, 3, 19, 9]), 1)(prediction) == 0


class ManyDetections:
    """A detector with twelve detections, of descending score."""

    name, precision, device_kind = "many", "fp64", DeviceKind.CPU
    count = 12

    def run(self, feeds):
        batch = len(next(iter(feeds.values())))
        corner = np.arange(self.count, dtype=np.float32)[:, None]
        boxes = np.concatenate([corner, corner, corner + 10, corner + 10], 1)
        scores = np.linspace(0.99, 0.55, self.count).astype(np.float32)
        return {
            "boxes": np.broadcast_to(boxes, (batch, self.count, 4)),
            "scores": np.broadcast_to(scores, (batch, self.count)),
            "labels": np.zeros((batch, self.count), np.int64),
        }


@pytest.mark.parametrize(
    ("max_targets", "expected"), [({}, 5), ({"max_targets": 20}, 12), ({"max_targets": 7}, 7)]
)
@pytest.mark.parametrize("label", [None, "dent"])
def test_explain_max_targets_of_detections(max_targets, expected, label):
    explainer = Explainer(ManyDetections(), detector_file())
    heatmaps = explainer.explain(
        random_image(), method="occlusion", max_evals=10, label=label, faithfulness=False, **max_targets
    )
    assert len(heatmaps) == expected
    scores = [heatmap.score for heatmap in heatmaps]
    assert scores == pytest.approx(np.linspace(0.99, 0.55, 12)[:expected])


def test_explain_max_targets_of_labels_keeps_highest_scores():
    weights = np.stack([np.full((SIDE, SIDE), x / SIDE**2) for x in (0.6, 0.9, 0.1, 0.8, 0.7)])
    file = ModelFile(Path("model.onnx"), contract(labels=5), "digest", "graph", None)
    explainer = Explainer(Linear(weights), file)
    white = LoadedImage(np.full((SIDE, SIDE, 3), 255, np.uint8))
    options: dict[str, Any] = {"method": "occlusion", "max_evals": 10, "faithfulness": False}
    everything = explainer.explain(white, **options)
    assert [heatmap.label for heatmap in everything] == ["l0", "l1", "l3", "l4"]
    assert [heatmap.label for heatmap in explainer.explain(white, max_targets=2, **options)] == ["l1", "l3"]
    assert [h.label for h in explainer.explain(white, max_targets=2, label="l2", **options)] == ["l2"]


def test_explainers_registry_names_and_requirements():
    gradients = {name for name, entry in EXPLAINERS.items() if entry.requires is Requirement.GRADIENTS}
    assert gradients == {"grad-cam", "hires-cam", "layer-cam", "eigen-cam", "score-cam"}
    assert {name for name, _ in EXPLAINERS.items()} - gradients == {"model", "occlusion", "rise"}
    assert EXPLAINERS.get("grad-cam").forward_passes(300) == 1
    assert EXPLAINERS.get("rise").forward_passes() == 1000
    assert EXPLAINERS.get("rise").forward_passes(30) == 30


def test_registered_method_reaches_explainer():
    def brightness(request):
        assert (request.max_evals, request.seed) == (6, 4)
        scores = request.masked_predictor.predict_masked(np.ones((2, 3, 3)), request.score_function)
        return np.full((2, 2), scores.mean())

    method = ExplanationMethod("brightness", brightness, Requirement.ANY_MODEL, default_max_evals=6)
    register_method(method, module=__name__)
    try:
        explainer = Explainer(Detector(), detector_file())
        (heatmap,) = explainer.explain(bright_spot(3, 13), method="brightness", seed=4, faithfulness=False)
        assert heatmap.forward_passes == 2
        assert heatmap.values == pytest.approx(heatmap.score, abs=1e-6)
    finally:
        EXPLAINERS.unregister("brightness")


def test_occlusion_needs_ten_forward_passes():
    masked = MaskedPredictor(Linear([spot(3, 13), spot(9, 9)]), contract(), random_image())
    with raises("bad-input.max-evals", "got 9"):
        occlusion(masked, label_score(0), max_evals=9)
    assert occlusion(masked, label_score(0), max_evals=10).shape == (2, 2)


def test_score_cam_uses_the_channels_that_vary_most():
    features = np.zeros((3, 6, 6))
    features[0, 0, 3], features[1, 4, 1], features[2, 2, 2] = 1, 3, 2
    masked = MaskedPredictor(Linear([spot(3, 13), spot(9, 9)]), contract(), bright_spot(3, 13))
    values = score_cam(masked, label_score(0), features, max_evals=1)
    assert masked.num_forward_passes == 1
    assert np.argwhere(values).tolist() == [[4, 1]]
