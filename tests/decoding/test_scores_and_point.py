import numpy as np
import pytest

from blemish.decoding import DECODERS, decode
from blemish.decoding.scores import probabilities, sigmoid
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec
from blemish.preprocessing import Placement
from blemish.structures import Task
from blemish.testing import raises

WHOLE = Placement((100, 200), (50, 50), (0.25, 0.5), (0.0, 0.0))


def contract(task=Task.CLASSIFICATION, count=3, **fields):
    defaults = {
        "architecture": "test",
        "task": task,
        "labels": tuple(LabelSpec(name=f"l{i}", display_name=f"L {i}") for i in range(count)),
        "inputs": (InputSpec(size_hw=(50, 50)),),
        "outputs": (OutputSpec(name="out", role="scores", activation="logits"),),
        "decoder": DecoderSpec(name="scores"),
    }
    return Contract(**{**defaults, **fields})


def test_probabilities_equal_scipy():
    special = pytest.importorskip("scipy.special")
    raw = np.random.default_rng(0).normal(0, 20, (50, 7)).astype(np.float32)
    wide = raw.astype(np.float64)
    for temperature in (0.5, 1.0, 3.0):
        ours = probabilities(raw, Task.CLASSIFICATION, temperature=temperature)
        assert np.abs(ours - special.softmax(wide / temperature, 1)).max() < 1e-15
        assert np.abs(ours.sum(1) - 1).max() < 1e-14
        ours = probabilities(raw, Task.MULTILABEL, temperature=temperature)
        assert np.abs(ours - special.expit(wide / temperature)).max() < 1e-15
        assert ours.dtype == np.float64


def test_probabilities_large_logits_do_not_overflow():
    raw = np.array([[1e30, -1e30, 0.0]])
    with np.errstate(over="raise"):
        assert probabilities(raw, Task.CLASSIFICATION).tolist() == [[1, 0, 0]]
        assert probabilities(raw, Task.MULTILABEL).tolist() == [[1, 0, 0.5]]
    assert sigmoid(np.array([-800.0, 800.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("task", [Task.CLASSIFICATION, Task.MULTILABEL])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
def test_probabilities_temperature_of_probabilities_equals_temperature_of_logits(task, temperature):
    logits = np.random.default_rng(1).normal(0, 3, (20, 4))
    converted = probabilities(logits, task)
    expected = probabilities(logits, task, temperature=temperature)
    assert np.abs(probabilities(converted, task, "probabilities", temperature) - expected).max() < 1e-12


def test_probabilities_of_0_and_1_stay_finite_with_temperature():
    out = probabilities(np.array([[1.0, 0.0]]), Task.MULTILABEL, "probabilities", 2.0)
    assert np.isfinite(out).all()
    assert out[0, 0] > 0.99
    assert out[0, 1] < 0.01


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_probabilities_refuses_values_that_are_not_finite(bad):
    with raises("bad-model-file.not-finite", "scores"):
        probabilities(np.array([[0.0, bad]]), Task.CLASSIFICATION)


def test_probabilities_refuses_detection():
    with raises("wrong-task.image-level-scores", "detection"):
        probabilities(np.zeros((1, 2)), Task.DETECTION)


def test_decode_scores_classification_returns_best_label():
    first, second = decode(contract(), {"out": np.array([[0, 2, 1], [5, 2, 1]], np.float32)}, [WHOLE, WHOLE])
    assert first.label_names == ("l1",)
    assert second.label_names == ("l0",)
    assert first.scores[0] == first.label_scores[1] == first.label_scores.max()
    assert first.size_hw == (100, 200)
    assert first.thresholds.tolist() == [0.5] * 3


def test_decode_scores_multilabel_returns_labels_at_threshold():
    model_contract = contract(
        Task.MULTILABEL,
        outputs=(OutputSpec(name="out", role="scores", activation="probabilities"),),
        thresholds={"l0": 0.25, "l2": 0.75},
    )
    (prediction,) = decode(model_contract, {"out": np.array([[0.25, 0.49, 0.75]])}, [WHOLE])
    assert prediction.label_names == ("l0", "l2")
    assert prediction.decide().tolist() == [True, False, True]
    assert prediction.scores.tolist() == [0.25, 0.75]
    (prediction,) = decode(model_contract, {"out": np.array([[0.2499999, 0.49, 0.7499999]])}, [WHOLE])
    assert prediction.label_names == ()


def test_decode_refuses_outputs_that_contradict_contract():
    with raises("bad-model-file.missing-output", "'out'"):
        decode(contract(), {"other": np.zeros((1, 3))}, [WHOLE])
    with raises("bad-model-file.output-shape", "'out'", "'scores'", "1 x 3", "(1, 4)"):
        decode(contract(), {"out": np.zeros((1, 4))}, [WHOLE])
    with raises("bad-model-file.output-shape", "'out'", "1 rows", "got 2"):
        decode(contract(), {"out": np.zeros((2, 3))}, [WHOLE])
    with raises("unknown-name.decoder", "'dnse'", "'dense'"):
        decode(contract(decoder=DecoderSpec(name="dnse")), {"out": np.zeros((1, 3))}, [WHOLE])
    odd = contract(outputs=(OutputSpec(name="out", role="sores"),))
    with raises("bad-model-file.missing-role", "'scores'", "sores"):
        decode(odd, {"out": np.zeros((1, 3))}, [WHOLE])


def test_decoders_registry_names():
    assert set(DECODERS.names()) == {"scores", "point", "dense", "final", "set", "label-maps", "patch-scores"}


def point(activation="none", **settings):
    return contract(
        Task.LOCALIZATION,
        1,
        outputs=(OutputSpec(name="out", role="box", activation=activation),),
        decoder=DecoderSpec(name="point", settings=settings),
    )


@pytest.mark.parametrize(
    ("settings", "raw"),
    [
        ({}, [0.5, 0.5, 0.2, 0.4]),
        ({"box_format": "xywh"}, [0.4, 0.3, 0.2, 0.4]),
        ({"box_format": "xyxy"}, [0.4, 0.3, 0.6, 0.7]),
        ({"box_format": "xyxy", "normalized": False}, [20, 15, 30, 35]),
        ({"box_format": "xyxy", "normalized": False}, [30, 35, 20, 15]),  # x1 > x2 and y1 > y2
    ],
)
def test_decode_point_box_formats(settings, raw):
    (prediction,) = decode(point(**settings), {"out": np.array([raw], np.float32)}, [WHOLE])
    assert prediction.boxes_xyxy == pytest.approx(np.array([[80, 30, 120, 70]]), abs=1e-4)
    assert prediction.scores.tolist() == [1.0]
    assert prediction.label_scores.tolist() == [1.0]


def test_decode_point_center_crop_and_letterbox():
    cropped = Placement((100, 200), (50, 50), (0.5, 0.5), (-25.0, 0.0))
    boxed = Placement((100, 200), (50, 50), (0.25, 0.25), (0.0, 12.5))
    raw = {"out": np.array([[0.0, 0.0, 1.0, 1.0]] * 2)}
    first, second = decode(point(box_format="xyxy"), raw, [cropped, boxed])
    assert first.boxes_xyxy.tolist() == [[50, 0, 150, 100]]
    assert second.boxes_xyxy.tolist() == [[0, 0, 200, 100]]  # the padding is clipped


def test_decode_point_logits_without_labels():
    model_contract = point("logits").model_copy(update={"labels": ()})
    (prediction,) = decode(model_contract, {"out": np.zeros((1, 4))}, [WHOLE])
    assert prediction.boxes_xyxy.tolist() == [[50, 25, 150, 75]]
    assert prediction.label_index.tolist() == [0]


def test_decode_point_refuses_unknown_box_format():
    with raises("bad-model-file.box-format", "xyxy, cxcywh, xywh", "'yxyx'"):
        decode(point(box_format="yxyx"), {"out": np.zeros((1, 4))}, [WHOLE])


def test_decode_point_coord_max_ignores_placement():
    cropped = Placement((100, 200), (50, 50), (0.5, 0.5), (-25.0, 0.0))
    model_contract = point(box_format="xywh", coord_max=400)
    (prediction,) = decode(model_contract, {"out": np.array([[0.1, 0.05, 0.2, 0.5]])}, [cropped])
    assert prediction.boxes_xyxy == pytest.approx(
        np.array([[40, 20, 120, 100]])
    )  # y2 = 220 is below the image
