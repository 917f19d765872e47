"""Which images to label next."""

import numpy as np
import pytest
from PIL import Image

from blemish.inference import load
from blemish.inference.label_selection import choose_diverse, prediction_uncertainty, select_images
from blemish.structures import Labels, Prediction, Task
from blemish.testing import raises


def test_choose_diverse_takes_one_of_each_cluster_first():
    features = np.array([[0, 0], [0, 0.1], [10, 0], [10, 0.1], [0, 10.0]])
    chosen, distances = choose_diverse(np.array([0.9, 0.8, 0.5, 0.4, 0.5]), features, 3)
    assert chosen[0] == 0 and set(chosen) == {0, 2, 4}
    assert distances[0] == 0 and min(distances[1:]) == pytest.approx(10)


def test_choose_diverse_takes_the_more_uncertain_of_equals_and_postpones_what_is_known():
    features = np.array([[0.0], [5.0], [5.0]])
    assert choose_diverse(np.array([1.0, 0.2, 0.9]), features, 2)[0] == [0, 2]
    assert choose_diverse(np.array([1.0, 0.2, 0.9]), features, 1, np.array([[0.0]]))[0] == [2]
    assert choose_diverse(np.array([1.0, 0.2, 0.9]), features, 9)[0] == [0, 2, 1]


def image_level(task, scores, thresholds):
    labels = Labels(tuple(f"l{k}" for k in range(len(scores))))
    scores = np.array(scores)
    index = [int(scores.argmax())] if task == "classification" else np.flatnonzero(scores >= thresholds)
    return Prediction(
        task=Task(task),
        labels=labels,
        label_index=np.array(index, np.int64),
        scores=scores[index],
        label_scores=scores,
        thresholds=np.array(thresholds, float),
    )


@pytest.mark.parametrize(
    ("task", "scores", "thresholds", "expected"),
    [
        ("classification", [0.5, 0.5], [0.5, 0.5], 1.0),
        ("classification", [0.9, 0.1], [0.5, 0.5], 0.2),
        ("multilabel", [0.2, 0.0], [0.2, 0.5], 1.0),
        ("multilabel", [1.0, 0.0], [0.2, 0.5], 0.0),
        ("multilabel", [0.6, 0.0], [0.2, 0.5], 0.5),
    ],
)
def test_prediction_uncertainty(task, scores, thresholds, expected):
    assert prediction_uncertainty(image_level(task, scores, thresholds)) == pytest.approx(expected)


def test_prediction_uncertainty_of_detections():
    def detections(scores):
        count = len(scores)
        return Prediction(
            task=Task("detection"),
            labels=Labels(("dent",)),
            label_index=np.zeros(count, np.int64),
            boxes_xyxy=np.tile([0, 0, 1, 1.0], (count, 1)),
            scores=np.array(scores, float),
            label_scores=np.array([max(scores, default=0.0)]),
            thresholds=np.array([0.5]),
        )

    assert prediction_uncertainty(detections([])) == 0
    assert prediction_uncertainty(detections([1.0, 0.6])) == pytest.approx(0.8)


def test_select_images(tmp_path, tiny):
    tiny.write_scores_model(tmp_path / "model.onnx", labels=("dented", "fine"))
    predictor = load(tmp_path / "model.onnx", backend="onnxruntime")
    random = np.random.default_rng(0)
    paths = []
    for k in range(6):
        paths.append(tmp_path / f"{k}.png")
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(paths[-1])
    (tmp_path / "broken.png").write_bytes(b"x")
    selection = select_images(predictor, [*paths[1:], tmp_path / "broken.png"], 3, labeled=paths[:1])
    assert len({image.path for image in selection.images}) == 3
    assert [image.rank for image in selection.images] == [1, 2, 3]
    assert paths[0] not in {image.path for image in selection.images}
    assert [path.name for path, _ in selection.failed] == ["broken.png"]
    assert selection.features == "pixels"
    with raises("bad-input.count"):
        select_images(predictor, paths, 0)
    with raises("bad-input.no-images"):
        select_images(predictor, paths[:1], 1, labeled=paths[:1])
