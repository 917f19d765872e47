import sys
from types import SimpleNamespace

import numpy as np
import pytest

from blemish.geometry import mask_from_array, mask_to_array
from blemish.structures import GroundTruth, Labels, Prediction, Task
from blemish.testing import raises

LABELS = Labels(("dent", "scratch"), ("Dent", "Scratch"))
BOXES = np.array([[10, 20, 40, 60], [1.5, 2, 3, 30]])


def masks():
    first, second = np.zeros((80, 50), bool), np.zeros((80, 50), bool)
    first[20:60, 10:40], second[2:30, 2:3] = True, True
    return first, second


def prediction(task=Task.SEGMENTATION, **fields):
    defaults = {
        "task": task,
        "labels": LABELS,
        "size_hw": (80, 50),
        "label_index": np.array([1, 0]),
        "boxes_xyxy": BOXES,
        "masks": tuple(map(mask_from_array, masks())) if task is Task.SEGMENTATION else None,
        "scores": np.array([0.9, 0.25]),
        "label_scores": np.array([0.25, 0.9]),
        "thresholds": np.array([0.5, 0.5]),
    }
    return Prediction(**{**defaults, **fields})


def image_level(task=Task.MULTILABEL):
    return prediction(task, label_index=np.array([1]), scores=np.array([0.9]), boxes_xyxy=None, masks=None)


@pytest.mark.parametrize(
    ("names", "display_names", "code"),
    [
        (("a", "b"), ("A",), "bad-input.display-names"),
        (("a", " "), (), "bad-input.empty-label"),
        (("a", "a"), (), "bad-input.duplicate-label"),
    ],
)
def test_labels_refuses_impossible_names(names, display_names, code):
    with raises(code):
        Labels(names, display_names)


def test_labels_display_names_default_to_names():
    assert Labels(("a", "b")).display_names == ("a", "b")
    assert LABELS.display_name("scratch") == "Scratch"
    with raises("unknown-name.label", "'scrach'", "'scratch'"):
        LABELS.display_name("scrach")


@pytest.mark.parametrize(
    ("fields", "code", "facts"),
    [
        ({"label_index": np.array([0, 2])}, "bad-input.label-index", ("below 2", "got 2")),
        ({"label_index": np.array([-1, 0])}, "bad-input.label-index", ("got -1",)),
        ({"boxes_xyxy": BOXES[:, [2, 1, 0, 3]]}, "bad-input.box", ("box 0",)),
        ({"boxes_xyxy": BOXES * [[1], [np.nan]]}, "bad-input.box", ("box 1",)),
        ({"boxes_xyxy": None}, "bad-input.no-boxes", ("segmentation",)),
        ({"boxes_xyxy": BOXES[:1]}, "bad-input.array-shape", ("boxes_xyxy", "(1, 4)")),
        ({"masks": ()}, "bad-input.mask-count", ("got 0", "2 objects")),
        ({"scores": np.array([1.5, 0])}, "bad-input.score-range", ("scores", "1.5")),
        ({"label_scores": np.array([0.1, -0.1])}, "bad-input.score-range", ("label_scores", "-0.1")),
    ],
)
def test_prediction_refuses_impossible_values(fields, code, facts):
    with raises(code, *facts):
        prediction(**fields)


def test_annotation_refuses_impossible_image_level_labels():
    with raises("bad-input.label-count", "classification", "got 2"):
        GroundTruth(task=Task.CLASSIFICATION, labels=LABELS, label_index=np.array([0, 1]))
    with raises("bad-input.label-index", "[1, 0]"):
        GroundTruth(task=Task.MULTILABEL, labels=LABELS, label_index=np.array([1, 0]))


def test_arrays_are_read_only_and_copied():
    boxes = BOXES.copy()
    one = prediction(boxes_xyxy=boxes)
    boxes[:] = 0
    assert one.boxes_xyxy.tolist() == BOXES.tolist()
    assert not one.boxes_xyxy.flags.writeable


def test_filter_scores_default_is_the_threshold_of_each_label():
    one = prediction(thresholds=np.array([0.2, 0.95]))
    assert one.filter_scores().label_names == ("dent",)
    assert one.filter_scores(0.5).label_names == ("scratch",)
    assert one.filter_scores(0.25).label_names == ("scratch", "dent")
    assert len(one.filter_scores(0.5).masks) == 1
    assert image_level().filter_scores(0.99) is not None


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_to_coco_boxes_and_masks():
    pycoco = pytest.importorskip("pycocotools.mask")
    results = prediction().to_coco(17)
    assert [r["image_id"] for r in results] == [17, 17]
    assert [r["category_id"] for r in results] == [2, 1]
    assert [r["bbox"] for r in results] == [[10, 20, 30, 40], [1.5, 2, 1.5, 28]]
    assert [r["score"] for r in results] == [0.9, 0.25]
    for result, expected in zip(results, masks(), strict=True):
        assert (pycoco.decode(result["segmentation"]).astype(bool) == expected).all()
    boxes_only = prediction(Task.DETECTION).to_coco("a.jpg", {"dent": 7, "scratch": 9})
    assert [r["category_id"] for r in boxes_only] == [9, 7]
    assert all("segmentation" not in r for r in boxes_only)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of pycocotools
def test_to_coco_is_read_by_pycocotools(capsys):
    coco = pytest.importorskip("pycocotools.coco")
    ground_truth = coco.COCO()
    ground_truth.dataset = {
        "images": [{"id": 3, "width": 50, "height": 80}],
        "categories": [{"id": 1, "name": "dent"}, {"id": 2, "name": "scratch"}],
        "annotations": [],
    }
    ground_truth.createIndex()
    loaded = ground_truth.loadRes(prediction().to_coco(3))
    areas = [annotation["area"] for annotation in loaded.loadAnns(loaded.getAnnIds())]
    assert areas == [30 * 40, 1.5 * 28]


def test_to_coco_refuses_image_level_and_unknown_category():
    with raises("wrong-task.needs-boxes", "multilabel"):
        image_level().to_coco(1)
    with raises("unknown-name.label", "'scratch'", "category_ids"):
        prediction().to_coco(1, {"dent": 1, "scratches": 2})


@pytest.fixture
def supervision(monkeypatch):
    """A replacement of the package, whose classes keep their arguments."""
    module = SimpleNamespace(
        Detections=lambda **fields: SimpleNamespace(kind="detections", **fields),
        Classifications=lambda **fields: SimpleNamespace(kind="classifications", **fields),
    )
    monkeypatch.setitem(sys.modules, "supervision", module)


def test_to_supervision_detections(supervision):
    one = prediction()
    converted = one.to_supervision()
    assert converted.kind == "detections"
    assert converted.xyxy.tolist() == BOXES.tolist()
    assert converted.mask.dtype == bool
    assert converted.mask.shape == (2, 80, 50)
    assert (converted.mask == np.stack([mask_to_array(mask) for mask in one.masks])).all()
    assert converted.confidence.tolist() == [0.9, 0.25]
    assert converted.class_id.tolist() == [1, 0]
    assert converted.data["class_name"].tolist() == ["scratch", "dent"]
    converted.xyxy[:] = 0  # a copy that its user may change
    assert one.boxes_xyxy.tolist() == BOXES.tolist()


def test_to_supervision_without_masks_and_without_detections(supervision):
    assert prediction(Task.DETECTION).to_supervision().mask is None
    empty = prediction(
        label_index=np.zeros(0, int), boxes_xyxy=np.zeros((0, 4)), masks=(), scores=np.zeros(0)
    ).to_supervision()
    assert empty.xyxy.shape == (0, 4)
    assert empty.mask.shape == (0, 80, 50)
    assert empty.data["class_name"].shape == (0,)


def test_to_supervision_image_level(supervision):
    converted = image_level().to_supervision()
    assert converted.kind == "classifications"
    assert converted.class_id.tolist() == [0, 1]
    assert converted.confidence.tolist() == [0.25, 0.9]


def test_to_supervision_of_the_real_package():
    real = pytest.importorskip("supervision")
    converted = prediction().to_supervision()
    assert isinstance(converted, real.Detections)
    assert len(converted) == 2
    assert isinstance(image_level().to_supervision(), real.Classifications)


def test_to_supervision_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="supervision"):
        prediction().to_supervision()
