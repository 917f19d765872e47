import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.data import synthetic
from blemish.data.write_dataset import write_dataset
from blemish.model_file import InputSpec
from blemish.structures import GroundTruth, Labels, Prediction, Sample, Task
from blemish.training import train
from blemish.training.health_callback import (
    TrainingHealth,
    describe_dead_channels,
    describe_gradient_jump,
    describe_tiny_objects,
    describe_unmatched_images,
    draw_examples,
)

LABELS = Labels(("dent", "scratch"))


def sample(sides, size_hw=(400, 800), path="x.png"):
    boxes = np.array([[10, 10, 10 + w, 10 + h] for w, h in sides], float).reshape(-1, 4)
    return Sample(
        id=path,
        path=Path(path),
        ground_truth=GroundTruth(
            task=Task.DETECTION,
            labels=LABELS,
            size_hw=size_hw,
            label_index=np.arange(len(sides)) % 2,
            boxes_xyxy=boxes,
        ),
    )


@pytest.mark.parametrize(("side", "is_warned"), [(200, True), (800, False)])
def test_tiny_objects_depend_on_the_input_size(side, is_warned):
    spec = InputSpec(size_hw=(side, side), resize="letterbox")
    text = describe_tiny_objects([sample([(100, 100), (20, 20)])], spec)  # 20 px become 5 px at a quarter
    assert bool(text) == is_warned
    assert ("1 of 2" in text and "scratch 100%" in text) == is_warned


def test_tiny_objects_of_images_without_boxes_are_none():
    assert describe_tiny_objects([Sample(id="a", path=Path("a.png"))], InputSpec(size_hw=(64, 64))) == ""


def test_dead_channels_are_counted():
    assert describe_dead_channels(np.array([0.0, 1e-9, 0.5, 1.0])) == ""
    assert "3 of 4" in describe_dead_channels(np.array([0.0, 0.0, 0.0, 1.0]))
    assert "4 of 4" in describe_dead_channels(np.zeros(4))


def test_unmatched_images_are_counted_against_those_with_objects():
    spec = InputSpec(size_hw=(64, 96))
    assert describe_unmatched_images(0, 0, spec) == ""
    assert describe_unmatched_images(1, 20, spec) == ""
    text = describe_unmatched_images(2, 20, spec)
    assert "2 of 20" in text
    assert "96 x 64" in text


def test_training_health_counts_unmatched_images_of_each_batch(tmp_path):
    health = TrainingHealth(tmp_path)
    module = SimpleNamespace(network=SimpleNamespace(unmatched=None))
    batch = {"target": [{"boxes": torch.zeros(n, 4)} for n in (2, 0, 1)]}
    health.on_train_batch_end(None, module, None, batch, 0)
    assert health._images == 0  # not reported by this network
    module.network.unmatched = torch.tensor([True, False, False])
    for _ in range(2):
        health.on_train_batch_end(None, module, None, batch, 0)
    assert (int(sum(health._unmatched)), health._images) == (2, 4)


def test_gradient_jumps_are_relative_to_the_usual_norm():
    usual = [0.1] * 20
    assert describe_gradient_jump([*usual, 5.0]) == ""
    assert "0.2" in describe_gradient_jump([*usual, 50.0])
    assert describe_gradient_jump([0.1, 50.0]) == ""  # too few steps to know what is usual


def test_examples_show_labels_beside_predictions_and_leave_out_missing_images(tmp_path, caplog):
    path = tmp_path / "one.png"
    Image.new("RGB", (80, 40), "gray").save(path)
    shown = sample([(20, 20)], (40, 80), str(path))
    gone = sample([(20, 20)], (40, 80), str(tmp_path / "gone.png"))
    prediction = Prediction(
        task=Task.DETECTION,
        labels=LABELS,
        size_hw=(40, 80),
        label_index=np.array([0]),
        boxes_xyxy=np.array([[5.0, 5, 20, 20]]),
        scores=np.array([0.9]),
        label_scores=np.array([0.9, 0]),
        thresholds=np.array([0.5, 0.5]),
    )
    with caplog.at_level(logging.WARNING, logger="blemish.training"):
        draw_examples([(gone, prediction), (shown, prediction)], tmp_path / "sheet.jpg")
    assert "gone.png" in caplog.text
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width > sheet.height


def test_training_draws_its_best_epoch_and_warns_of_tiny_objects(tmp_path):
    drawn = synthetic.write_panels(tmp_path / "drawn", count=8, seed=3, layout="images")
    write_dataset(drawn, tmp_path / "set", "coco")
    changes = {
        "task": "detection",
        "model.weights": "none",
        "model.input_size": 64,
        "model.options": {"backbone": "resnet18"},
        "training.epochs": 1,
        "training.batch_size": 4,
        "training.workers": 0,
        "training.tensorboard": False,
    }
    train(
        None,
        data=tmp_path / "set",
        model="ssd300-resnet50",
        output=tmp_path / "run",
        device="cpu",
        set=changes,
    )
    with Image.open(tmp_path / "run" / "best_epoch.jpg") as sheet:
        assert min(sheet.size) > 100
    assert "model.input_size" in (tmp_path / "run" / "train.log").read_text("utf-8")
