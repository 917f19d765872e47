"""On models whose maps are known in closed form."""

from pathlib import Path

import numpy as np
import pytest

from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.explanation import Explainer
from blemish.explanation.activation_maps import eigen_cam, grad_cam, hires_cam, layer_cam
from blemish.explanation.faithfulness import deletion_insertion
from blemish.explanation.masked_inference import MaskedPredictor, box_question, label_question
from blemish.explanation.perturbation import occlusion, rise, score_cam
from blemish.imaging import LoadedImage
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, ModelFile, OutputSpec
from blemish.structures import Task

SIDE = 24
SPEC = InputSpec(size_hw=(SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1))


def contract(task=Task.MULTILABEL, labels=2, activation="probabilities", inputs=(SPEC,), **fields):
    return Contract(
        architecture="linear",
        task=task,
        labels=[LabelSpec(name=f"l{i}", title=f"L{i}") for i in range(labels)],
        inputs=inputs,
        outputs=[OutputSpec(name="scores", role="scores", activation=activation)],
        decoder=DecoderSpec(name="scores"),
        **fields,
    )


class Linear:
    """score of label k = the sum of weights[k] * the first input's first channel."""

    name, precision = "linear", "fp64"

    def __init__(self, weights, bias=0.0):
        self.weights, self.bias, self.batches = np.asarray(weights), bias, []

    def run(self, feeds):
        plane = next(iter(feeds.values()))[:, 0].astype(np.float64)
        self.batches.append(len(plane))
        return {"scores": np.tensordot(plane, self.weights, ((1, 2), (1, 2))) + self.bias}


def image(seed=0, size_hw=(SIDE, SIDE)):
    return LoadedImage(np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8))


def spot(row, column, size=6):
    weights = np.zeros((SIDE, SIDE))
    weights[row : row + size, column : column + size] = 1 / size**2
    return weights


def test_occlusion_of_a_linear_model_is_its_closed_form():
    """Hiding cells takes away weight x (image - mean), and each cell is hidden by four windows."""
    photo, generator = image(), np.random.default_rng(1)
    weights = generator.normal(size=(2, SIDE, SIDE)) / SIDE**2
    asker = MaskedPredictor(Linear(weights, bias=0.5), contract(), photo, batch_size=7)
    side = 8
    ours = occlusion(asker, label_question(0), budget=(side + 1) ** 2 + 1)
    assert asker.looks == (side + 1) ** 2 + 1
    plane = photo.pixels[..., 0] / 255
    # the mask as the network's frame sees it, built the slow way
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
def test_the_map_peaks_where_the_model_looks(method, row, column):
    asker = MaskedPredictor(Linear([spot(row, column), spot(9, 9)]), contract(), bright_spot(row, column))
    find = occlusion if method == "occlusion" else rise
    values = find(asker, label_question(0), budget=400)
    peak = np.array(np.unravel_index(values.argmax(), values.shape)) + 0.5
    y, x = peak / values.shape[0] * SIDE
    assert row - 1 <= y <= row + 7 and column - 1 <= x <= column + 7
    assert asker.looks <= 400


def test_rise_tends_to_the_closed_form_of_a_linear_model():
    """E[score | place shown] - E[score] is proportional to the smoothed weight x contrast."""
    photo, weights = image(2), np.stack([spot(3, 3, 9), spot(9, 9)])
    asker = MaskedPredictor(Linear(weights), contract(), photo, batch_size=256)
    values = rise(asker, label_question(0), budget=4000)
    again = rise(asker, label_question(0), budget=4000)
    assert np.array_equal(values, again), "the seed decides"
    other = rise(asker, label_question(0), budget=4000, seed=1)
    assert np.corrcoef(values.ravel(), other.ravel())[0, 1] > 0.9
    assert abs(values.mean()) < 0.05 * np.abs(values).max()


def test_score_cam_weighs_the_channel_that_shows_what_counts():
    photo = bright_spot(3, 13)
    features = np.zeros((3, 6, 6))
    features[0, 0:2, 3:5] = 2  # over the spot
    features[1, 4:6, 0:2] = 2  # elsewhere
    asker = MaskedPredictor(Linear([spot(3, 13), spot(9, 9)]), contract(), photo)
    values = score_cam(asker, label_question(0), features)
    assert asker.looks == 2, "a channel that shows nothing is not asked"
    assert values[0, 3] > 2 * values[5, 0] > 0
    assert not score_cam(asker, label_question(0), np.zeros((3, 6, 6))).any()


def test_deletion_and_insertion_tell_a_right_map_from_a_wrong_one():
    photo = bright_spot(3, 13)
    asker = MaskedPredictor(Linear([spot(3, 13), spot(9, 9)]), contract(), photo)
    right, wrong = spot(3, 13), spot(15, 2)
    good, bad = (deletion_insertion(asker, label_question(0), m) for m in (right, wrong))
    assert good[0] < bad[0] and good[1] > bad[1]
    # hidden first and shown first are mirror images of hidden last and shown last
    mirrored = deletion_insertion(asker, label_question(0), -right)
    assert mirrored[0] > good[0] and mirrored[1] < good[1]


def test_a_mean_grey_image_gives_a_flat_map():
    photo = LoadedImage(np.full((SIDE, SIDE, 3), 99, np.uint8))
    asker = MaskedPredictor(Linear(np.ones((2, SIDE, SIDE)) / SIDE**2), contract(), photo)
    np.testing.assert_allclose(occlusion(asker, label_question(0)), 0, atol=1e-7)


def test_every_input_is_masked_alike():
    inputs = (SPEC, InputSpec(name="small", size_hw=(12, 12), mean=(0, 0, 0), std=(1, 1, 1)))

    class Both(Linear):
        def run(self, feeds):
            large, small = feeds["image"][:, 0], feeds["small"][:, 0]
            hidden = [np.abs(x - x.mean((1, 2), keepdims=True)).sum((1, 2)) for x in (large, small)]
            return {"scores": np.stack([h / (1 + h) for h in hidden], 1)}

    asker = MaskedPredictor(Both(np.zeros((2, SIDE, SIDE))), contract(inputs=inputs), image(4, (48, 48)))
    shown = asker.ask(np.stack([np.ones((4, 4)), np.zeros((4, 4))]), label_question(0))
    also = asker.ask(np.stack([np.ones((4, 4)), np.zeros((4, 4))]), label_question(1))
    assert shown[0] > 0.5 and also[0] > 0.5
    assert shown[1] == pytest.approx(0, abs=1e-3) == also[1]


def test_batches_are_full_and_a_fixed_batch_is_kept():
    backend = Linear([spot(3, 3), spot(9, 9)])
    occlusion(MaskedPredictor(backend, contract(), image(), batch_size=32), label_question(0), budget=100)
    assert max(backend.batches) == 32
    backend.batches.clear()
    fixed = contract(dynamic_batch=False)
    occlusion(MaskedPredictor(backend, fixed, image(), batch_size=32), label_question(0), budget=100)
    assert set(backend.batches) == {1}


def test_a_linear_head_in_closed_form():
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


def test_eigen_cam_of_one_pattern_is_that_pattern():
    pattern = np.random.default_rng(0).random((4, 5))
    features = np.array([1.0, 2.0, 0.5])[:, None, None] * pattern
    ours = eigen_cam(features)
    above = np.maximum(pattern - pattern.mean(), 0)
    np.testing.assert_allclose(ours / ours.max(), above / above.max(), atol=1e-9)


class Detector:
    """Finds one dent wherever its corner of the image is bright, and one scratch elsewhere."""

    name, precision = "detector", "fp64"

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
        labels=[LabelSpec(name="dent", title="Dent"), LabelSpec(name="scratch", title="Scratch")],
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
def test_each_detection_is_explained_by_its_own_place(method, tmp_path):
    photo = bright_spot(3, 13)
    photo.pixels.setflags(write=True)
    photo.pixels[15:21, 2:8] = 200
    path = tmp_path / "p.png"
    photo.to_pil().save(path)
    explainer = Explainer(Detector(), detector_file())
    found = explainer.explain(path, method=method, budget=300)
    assert [f.label for f in found] == ["dent", "scratch"]
    for one in found:
        x1, y1, x2, y2 = one.box_xyxy
        x, y = one.peak_xy
        assert x1 - 2 <= x <= x2 + 2 and y1 - 2 <= y <= y2 + 2
        assert one.insertion > one.deletion
    only = explainer.explain(path, method=method, budget=300, label="scratch", judge=False)
    assert [f.label for f in only] == ["scratch"] and only[0].deletion is None
    np.testing.assert_array_equal(only[0].values, found[1].values)


def test_what_cannot_be_done_is_refused_before_any_work():
    explainer = Explainer(Detector(), detector_file())
    with pytest.raises(WrongTask, match="occlusion"):
        explainer.explain(b"", method="grad-cam")
    with pytest.raises(UnknownName, match="grad-cam"):
        explainer.explain(b"", method="gradcam")
    with pytest.raises(UnknownName, match="dent"):
        explainer.explain(b"", method="rise", label="dents")
    with pytest.raises(BadInput, match="budget"):
        explainer.explain(b"", method="rise", budget=1)
    assert explainer.default_method() == "occlusion"


def test_the_cost_is_stated_and_kept(tmp_path):
    path = tmp_path / "p.png"
    bright_spot(3, 13).to_pil().save(path)
    explainer = Explainer(Detector(), detector_file())
    done = []
    found = explainer.explain(path, method="rise", budget=50, progress=done.append)
    assert all(one.looks <= explainer.looks("rise", 50) for one in found)
    assert sum(done) == 1 + sum(one.looks for one in found)
    assert explainer.looks("occlusion", judge=False) == 256


def test_box_question_is_overlap_times_score(tmp_path):
    asker = MaskedPredictor(Detector(), detector_file().contract, bright_spot(3, 13))
    prediction = asker.decide()
    score = prediction.label_scores[0]
    assert box_question(np.array([13.0, 3, 19, 9]), 0)(prediction) == pytest.approx(score, abs=1e-6)
    half = box_question(np.array([13.0, 3, 19, 6]), 0)(prediction)
    assert half == pytest.approx(score / 2, abs=1e-6)
    assert box_question(np.array([13.0, 3, 19, 9]), 1)(prediction) == 0
