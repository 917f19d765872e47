"""`plan_training`: the checks before a training, and what it would do; without torch."""

import subprocess
import sys

import pytest

from blemish.config.recipe import read_recipe
from blemish.structures import Task
from blemish.testing import raises
from blemish.training import plan_training
from blemish.training.monitored_metrics import (
    check_metrics,
    is_loss,
    known_metrics,
    loss_key,
    monitor_direction,
)
from blemish.training.recipe_checks import check_recipe
from blemish.training.step_count import count_batches, count_steps
from blemish.training.training_plan import FEW_IMAGES, describe_preset


def test_plan_training_counts_images_and_steps(recipe):
    plan = plan_training(recipe(training__epochs=3, training__batch_size=4))
    assert plan.recipe.task is Task.CLASSIFICATION
    assert plan.labels == ("dark", "light")
    assert sum(plan.images.values()) == 18
    steps = count_batches(plan.images["train"], 4)
    assert (plan.steps_per_epoch, plan.steps) == (steps, 3 * steps)
    assert plan.monitor == "macro_f1"
    accumulated = plan_training(recipe(training__batch_size=4, training__accumulate_grad_batches=3))
    assert accumulated.steps_per_epoch == count_steps(steps, 3) == -(-steps // 3)
    auto = plan_training(recipe(training__batch_size="auto"))
    assert (auto.steps_per_epoch, auto.steps) == (None, None)


def test_plan_training_does_not_import_torch_and_writes_nothing(recipe, tmp_path):
    (tmp_path / "r.yaml").write_text(recipe().to_yaml())
    code = (
        "import sys; from blemish.training import plan_training, read_recipe;"
        f"plan_training(read_recipe({str(tmp_path / 'r.yaml')!r})); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path)
    assert done.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.yaml"]


@pytest.mark.parametrize(
    ("changes", "code", "facts"),
    [
        ({"data": "nowhere"}, "bad-dataset.no-such-file", ("nowhere",)),
        ({"data__path": None}, "bad-recipe.no-data", ("--data",)),
        ({"model__name": "yolo13n"}, "unknown-name.architecture", ("'yolo13n'", "'yolo12n'")),
        ({"model__weights": "none.pth"}, "bad-weights.missing-file", ("none.pth",)),
        ({"training__loss": {"name": "mse"}}, "bad-recipe.loss-of-another-task", ("mse", "classification")),
        ({"training__monitor": "ap50"}, "bad-recipe.unknown-metric", ("'ap50'", "classification")),
        ({"augmentation__zoom_out": 0.5}, "bad-recipe.key-of-another-task", ("augmentation.zoom_out",)),
        ({"training__min_precision": 0.5}, "bad-recipe.key-of-another-task", ("training.min_precision",)),
        ({"task": "detection"}, "wrong-task", ("timm/test_resnet", "detection")),
    ],
)
def test_plan_training_refuses_what_training_would(recipe, changes, code, facts):
    with raises(code, *facts):
        plan_training(recipe(**changes))


def test_check_recipe_refuses_names_without_the_data(recipe):
    with raises("bad-recipe.unknown-metric", "training.monitor", "'macro_f2'", "'macro_f1'"):
        check_recipe(recipe(training__monitor="macro_f2"))
    with raises("unknown-name.loss", "'focl'", "'focal'"):
        check_recipe(recipe(training__loss={"name": "focl"}))
    check_recipe(recipe(training__monitor="ap50"))  # a metric of another task: known once the data are


def test_monitor_direction_of_every_metric():
    assert monitor_direction("macro_f1") == monitor_direction("ap50") == "max"
    assert monitor_direction("log_loss") == monitor_direction("calibration_error") == "min"
    assert monitor_direction("val_loss") == monitor_direction("train_box_loss") == "min"
    with raises("unknown-name.metric", "'lossless_f1'"):
        monitor_direction("lossless_f1")
    for task in Task:
        for name in known_metrics(task):
            assert monitor_direction(name) in ("min", "max"), name


def test_loss_key_and_is_loss():
    assert loss_key("train") == "train_loss"
    assert loss_key("val", "box_loss") == loss_key("val", "box") == "val_box_loss"
    assert is_loss("val_box_loss")
    assert is_loss("train_loss")
    assert not is_loss("log_loss")
    assert not is_loss("val_ap50")


def test_check_metrics_accepts_partial_losses_of_detectors_only(recipe):
    chosen = recipe(training__monitor="val_box_loss")
    check_metrics(chosen, Task.DETECTION)
    check_metrics(chosen, None)
    with raises("bad-recipe.unknown-metric", "'val_box_loss'", "classification"):
        check_metrics(chosen, Task.CLASSIFICATION)


def test_describe_preset_offers_the_one_for_few_images():
    overrides = {"model.name": "yolo11n"}
    base, few = (read_recipe(overrides=overrides, settings=s) for s in ([], ["preset=few-images"]))
    assert "preset=few-images" in describe_preset(base, FEW_IMAGES)
    assert "few-images" not in describe_preset(base, FEW_IMAGES + 1)
    assert "also try" not in describe_preset(few, 20)
    assert "0.001 (backbone 0.0001), batches of 8" in describe_preset(few, 20)
    random = read_recipe(overrides={**overrides, "model.weights": "none"})
    assert "few-images" not in describe_preset(random, 20)
    ssd = read_recipe(overrides={"model.name": "ssd300-efficientnet-lite0"})
    assert "few-images" not in describe_preset(ssd, 20)
