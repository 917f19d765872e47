"""Training of detectors: a short training writes a certified model file and a history of partial losses."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blemish.config.recipe import Recipe, read_run_recipe
from blemish.data import synthetic
from blemish.data.write_dataset import write_dataset
from blemish.models import create
from blemish.preprocessing import Placement
from blemish.structures import GroundTruth, Labels, Prediction, Sample, Task
from blemish.testing import raises
from blemish.training import train
from blemish.training.detection_dataset import DetectionImageDataset
from blemish.training.detection_metrics import best_thresholds, measure_detections
from blemish.training.detection_module import sort_predictions
from blemish.training.monitored_metrics import check_metrics, watched_metrics
from blemish.training.sample_checks import check_objects

SMALL = {
    "task": "detection",
    "model.weights": "none",
    "model.input_size": 64,
    "training.epochs": 2,
    "training.batch_size": 4,
    "training.validation_batch_size": 3,
    "training.workers": 0,
    "training.patience": None,
    "training.tensorboard": False,
    "augmentation.horizontal_flip": 0.5,
    "augmentation.iou_crop": 0.5,
    "augmentation.zoom_out": 0.3,
}


@pytest.fixture(scope="module")
def panels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panels")
    drawn = synthetic.write_panels(folder / "drawn", count=12, seed=3, layout="images")
    write_dataset(drawn, folder / "set", "coco")
    return folder / "set"


def test_train_ssd_writes_a_certified_model_file(panels, tmp_path, exported):
    run = train(
        None,
        data=panels,
        model="ssd300-resnet50",
        output=tmp_path / "run",
        device="cpu",
        set={**SMALL, "model.options": {"backbone": "resnet18"}},
    )
    assert run.model_file.is_file()
    row = run.history[-1]
    assert {"ap", "ap50", "train_box_loss", "val_box_loss", "train_label_loss", "val_label_loss"} <= set(row)
    recipe = read_run_recipe(run.path)  # without a recipe: the preset, below what was set
    assert (recipe.preset, recipe.training.gradient_clip_val, recipe.training.epochs) == ("ssd", 10, 2)
    assert "preset ssd: " in (run.path / "train.log").read_text()
    assert row["train_loss"] == pytest.approx(row["train_box_loss"] + row["train_label_loss"], rel=1e-4)
    from blemish.model_file import read_model_file

    contract = read_model_file(run.model_file).contract
    assert contract.certificate.passed
    assert contract.thresholds_tuned_on == "val"
    assert set(contract.thresholds) == {label.name for label in contract.labels}


def test_train_refuses_cutmix_for_a_detector(panels, tmp_path):
    with raises("bad-recipe.key-of-another-task", "augmentation.cutmix", "detection"):
        train(
            None,
            data=panels,
            model="ssd300-resnet50",
            output=tmp_path / "run",
            device="cpu",
            set={**SMALL, "model.options": {"backbone": "resnet18"}, "augmentation.cutmix": 0.2},
        )


def test_train_refuses_a_window_before_its_folder_contains_a_run(panels, tmp_path):
    settings = {**SMALL, "model.options": {"backbone": "resnet18"}, "augmentation.window": {"side": 32}}
    with raises("bad-recipe.unsuitable-augmentation", "augmentation.window"):
        train(None, data=panels, model="ssd300-resnet50", output=tmp_path / "run", device="cpu", set=settings)
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_detection_dataset_without_augmentation_equals_prediction(panels):
    from blemish.data import open_dataset
    from blemish.imaging import open_image
    from blemish.preprocessing import prepare

    dataset = open_dataset(panels, task="detection")
    network = create("ssd300-resnet50", task="detection", label_count=3, input_size=64, backbone="resnet18")
    items = DetectionImageDataset(dataset.samples, network)
    item = items[0, 0]
    expected, placement = prepare(open_image(dataset[0].path), network.inputs[0])
    assert np.array_equal(item["inputs"][0].numpy(), expected)
    np.testing.assert_allclose(
        item["target"]["boxes"].numpy(), placement.to_network(dataset[0].ground_truth.boxes_xyxy), atol=1e-3
    )


def scene(found, held=1):
    labels = Labels(("a", "b"))
    boxes = np.array([[10.0, 10, 30, 30], [50, 50, 80, 80]])
    common: dict[str, Any] = {"task": Task.DETECTION, "labels": labels, "size_hw": (100, 100)}
    ground_truth = GroundTruth(**common, label_index=np.array([0] * held), boxes_xyxy=boxes[:held])
    prediction = Prediction(
        **common,
        label_index=np.zeros(len(found), int),
        boxes_xyxy=boxes[[place for place, _ in found]].reshape(-1, 4),
        scores=np.array([score for _, score in found], float),
        label_scores=np.zeros(2),
        thresholds=np.full(2, 0.5),
    )
    return prediction, Sample(id=str(found), path=Path("x.png"), ground_truth=ground_truth)


def test_measure_detections_and_best_thresholds_of_known_scenes():
    pairs = [scene([(0, 0.9), (1, 0.2)]), scene([(0, 0.8)])]
    predictions, samples = zip(*pairs, strict=True)
    figures = measure_detections(predictions, samples)
    assert figures["ap50"] == pytest.approx(1)
    thresholds, evidence = best_thresholds(predictions, samples)
    assert 0.2 < thresholds[0] < 0.8
    assert (evidence[0].positives, evidence[0].predicted, evidence[0].correct) == (2, 2, 2)
    worse = scene([(1, 0.95), (0, 0.9)])
    assert measure_detections([worse[0]], [worse[1]])["ap50"] == pytest.approx(0.5)
    none = scene([])
    assert measure_detections([none[0]], [none[1]])["ap50"] == 0
    clean = dataclasses.replace(none[1], ground_truth=None)
    assert np.isnan(measure_detections([none[0]], [clean])["ap50"])


def test_labels_below_the_required_precision_are_not_reliable():
    pairs = [scene([(1, 0.9), (0, 0.6)]), scene([(0, 0.8), (1, 0.3)])]
    predictions, samples = zip(*pairs, strict=True)
    thresholds, evidence = best_thresholds(predictions, samples, 0.6)
    assert 0.3 < thresholds[0] < 0.6
    assert (evidence[0].reliable, evidence[1].reliable) == (True, False)  # of b there is no object at all
    _, evidence = best_thresholds(predictions, samples, 0.9)
    assert not evidence[0].reliable


def test_sort_predictions_keeps_each_image_once_in_order():
    first, second = scene([(0, 0.9)])[0], scene([(0, 0.8)])[0]
    seen = [(np.array([1]), [second]), (np.array([0, 1]), [first, second])]
    zero, one = (Sample(id=name, path=Path(f"{name}.png")) for name in ("zero", "one"))
    predictions, samples = sort_predictions(seen, [zero, one])
    assert [p.scores[0] for p in predictions] == [0.9, 0.8]
    assert samples == [zero, one]


def test_check_metrics_refuses_a_name_that_is_no_loss():
    """Otherwise training would fail after the first epoch."""
    recipe = Recipe.of({"training": {"monitor": "val_ap50"}})
    with raises("bad-recipe.unknown-metric", "training.monitor", "'val_ap50'", "detection"):
        check_metrics(recipe, Task.DETECTION)
    check_metrics(recipe.changed({"training.monitor": "val_box_loss"}), Task.DETECTION)


def test_check_objects_refuses_splits_without_objects(tmp_path):
    """Otherwise training would fail after the last epoch, because the metric was never a number."""
    labels, none, one = Labels(("dent",)), np.zeros((0, 4)), np.array([[1.0, 1, 9, 9]])

    def some(boxes, crowd=False):
        ground_truth = GroundTruth(
            task=Task.DETECTION, labels=labels, label_index=np.array([0] * len(boxes)), boxes_xyxy=boxes,
            crowd=np.array([crowd] * len(boxes)),
        )  # fmt: skip
        return [Sample(id="a", path=tmp_path / "a.png", ground_truth=ground_truth)] * 3

    check_objects(some(one), some(one), Task.DETECTION, {"training.monitor": "ap"})
    with raises("bad-dataset.no-objects", "'train'", "3 images"):
        check_objects(some(none), some(one), Task.DETECTION, {"training.monitor": "ap"})
    watched = {"training.monitor": "val_loss", "training.schedule.metric": "ap50"}
    with raises("bad-dataset.no-objects", "'val'", "3 images", "ap50", "training.schedule.metric"):
        check_objects(some(one), some(one, crowd=True), Task.DETECTION, watched)
    check_objects(some(one), some(none), Task.DETECTION, {"training.monitor": "val_loss"})
    recipe = Recipe.of(
        {"training": {"monitor": "ap50", "schedule": {"name": "plateau", "metric": "val_loss"}}}
    )
    keys = ("training.monitor", "training.schedule.metric")
    assert watched_metrics(recipe, Task.DETECTION) == dict(zip(keys, ("ap50", "val_loss"), strict=True))
    assert watched_metrics(Recipe.of({}), Task.SEGMENTATION) == {"training.monitor": "ap"}


@pytest.mark.slow
def test_train_mask_rcnn_writes_a_certified_model_file(panels, tmp_path, exported):
    options = {"proposals": 40, "sampled_proposals": 32, "max_detections": 10, "trainable_backbone_layers": 5}
    run = train(
        None,
        data=panels,
        model="maskrcnn-resnet18-fpn",
        output=tmp_path / "run",
        device="cpu",
        set={**SMALL, "task": "segmentation", "training.epochs": 1, "model.options": options},
    )
    assert run.model_file.is_file()
    assert {"ap", "box_ap", "val_mask_loss", "train_objectness_loss"} <= set(run.history[-1])


@pytest.mark.slow
def test_resumed_detector_ends_with_the_same_weights(panels, tmp_path):
    from safetensors.torch import load_file

    how = {
        **SMALL,
        "training.epochs": 3,
        "training.schedule": {"name": "plateau", "metric": "ap50", "patience": 0},
        "training.ema": 0.9,
        "training.precision": "bf16",
        "model.options": {"backbone": "resnet18"},
        "augmentation.mosaic": 0.7,
        "augmentation.mixup": 8,
        "augmentation.close_share": 0.34,
    }
    common = {"data": panels, "model": "ssd300-resnet50", "device": "cpu"}
    whole = train(None, output=tmp_path / "whole", set=how, **common)
    train(None, output=tmp_path / "part", set={**how, "training.epochs": 1}, **common)
    recipe = tmp_path / "part" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 1\n", "epochs: 3\n", 1))
    resumed = train(resume=tmp_path / "part", device="cpu")
    assert whole.best_epoch == resumed.best_epoch
    first = load_file(tmp_path / "whole" / "weights.safetensors")
    second = load_file(tmp_path / "part" / "weights.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    timed = {"seconds", "ms_per_image"}
    rows = [[{k: v for k, v in r.items() if k not in timed} for r in run.history] for run in (whole, resumed)]
    assert str(rows[0]) == str(rows[1])  # as text, NaN equals NaN


TWO = """
import json, sys
from blemish.testing import raises
from blemish.training import train

if __name__ == "__main__":
    data, output, settings = sys.argv[1:]
    how = {"data": data, "model": "ssd300-resnet50", "device": "cpu", "set": json.loads(settings)}
    print(json.dumps(train(None, output=output, **how).history))
"""


@pytest.mark.slow
def test_two_processes_train_a_detector_together(panels, tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    how = {**SMALL, "training.devices": 2, "model.options": {"backbone": "resnet18"}}
    made = subprocess.run(
        [sys.executable, tmp_path / "two.py", panels, tmp_path / "run", json.dumps(how)],
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    history = json.loads(made.stdout.strip().splitlines()[-1])
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        assert row["train_loss"] == pytest.approx(row["train_box_loss"] + row["train_label_loss"], rel=1e-4)
        assert row["val_loss"] == pytest.approx(row["val_box_loss"] + row["val_label_loss"], rel=1e-4)


def test_unpack_placement_restores_a_placement(panels):
    from blemish.data import open_dataset
    from blemish.training.lightning_module import unpack_placement

    dataset = open_dataset(panels, task="detection")
    network = create("ssd300-resnet50", task="detection", label_count=3, input_size=64, backbone="resnet18")
    row = DetectionImageDataset(dataset.samples, network)[0, 0]["placement"]
    placement = unpack_placement(row, (64, 64))
    assert isinstance(placement, Placement)
    assert placement.size_hw == dataset[0].ground_truth.size_hw
