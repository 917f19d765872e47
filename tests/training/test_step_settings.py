"""Settings that follow from the number of steps and from the images per step."""

import math

import pytest
from safetensors.torch import load_file

from blemish.config.recipe import Recipe, read_run_recipe
from blemish.config.schema import AugmentationConfig
from blemish.training.run import train
from blemish.training.step_settings import count_mixed_epochs, describe_steps, scale_to_batch
from blemish.training.training_plan import plan_training


def recipe_of(optimizer, **training):
    rates = {"learning_rate": 0.01, "weight_decay": 0.1, "lr_by_stage": {"backbone": 0.001}}
    return Recipe.of({"training": {"optimizer": {**rates, **optimizer}, **training}})


@pytest.mark.parametrize(
    ("name", "rate", "decay"),
    [("sgd", 0.5, 1), ("adam", math.sqrt(0.5), 1), ("adamw",) + (math.sqrt(0.5),) * 2],
)
def test_scale_to_batch_follows_the_rule_of_the_optimizer(name, rate, decay):
    """Batches of 4, two of them per step, on two devices: half of the nominal 32 images."""
    recipe = recipe_of(
        {"name": name, "nominal_batch_size": 32}, batch_size=4, accumulate_grad_batches=2, devices=2
    )
    scaled = scale_to_batch(recipe)
    optimizer = scaled.training.optimizer
    assert optimizer.learning_rate == pytest.approx(0.01 * rate, rel=1e-15)
    assert optimizer.lr_by_stage == {"backbone": pytest.approx(0.001 * rate, rel=1e-15)}
    assert optimizer.weight_decay == pytest.approx(0.1 * decay, rel=1e-15)
    assert optimizer.nominal_batch_size == 16
    assert scale_to_batch(scaled) == scaled


@pytest.mark.parametrize(("nominal", "size"), [(None, 4), (4, 4), (8, "auto")])
def test_scale_to_batch_changes_nothing(nominal, size):
    recipe = recipe_of({"nominal_batch_size": nominal}, batch_size=size)
    assert scale_to_batch(recipe) is recipe


@pytest.mark.parametrize("preset", ["yolo", "ssd", "rcnn", "rfdetr"])
def test_presets_are_scaled_unless_one_of_their_rates_is_set(preset):
    recipe = Recipe.of({"preset": preset})
    training = recipe.training
    assert training.optimizer.nominal_batch_size == training.batch_size
    smaller = scale_to_batch(recipe.changed({"training.batch_size": 1}))
    ratio = smaller.training.optimizer.learning_rate / training.optimizer.learning_rate
    assert ratio == pytest.approx(training.batch_size**-0.5)
    own = Recipe.of({"preset": preset, "training": {"batch_size": 1, "optimizer": {"learning_rate": 0.5}}})
    assert own.training.optimizer.weight_decay == training.optimizer.weight_decay
    assert scale_to_batch(own).training.optimizer.learning_rate == 0.5
    rates = {"training.batch_size": 1, "training.optimizer.learning_rate": 0.5}
    assert scale_to_batch(recipe.changed(rates)).training.optimizer == own.training.optimizer


def test_train_scales_once_and_resumes_bit_for_bit(recipe, tmp_path, stop_after):
    optimizer = {"learning_rate": 0.003, "weight_decay": 0.01, "nominal_batch_size": 7}
    chosen = recipe(
        training__optimizer=optimizer, training__schedule={"warmup_share": 0.2}, training__ema="auto"
    )
    plan = plan_training(chosen)
    assert plan.recipe.training.optimizer.learning_rate == 0.003 * math.sqrt(4 / 7)
    assert "12 steps of 4 images" in plan.derived
    whole = train(chosen, output=tmp_path / "whole", device="cpu")
    with stop_after(1):
        train(chosen, output=tmp_path / "cut", device="cpu")
    resumed = train(resume=tmp_path / "cut", device="cpu")
    stored = read_run_recipe(resumed.path).training.optimizer
    assert (stored.learning_rate, stored.nominal_batch_size) == (0.003 * math.sqrt(4 / 7), 4)
    first, second = (load_file(run.path / "weights.safetensors") for run in (whole, resumed))
    assert all(first[name].equal(second[name]) for name in first)
    rates = [[row["learning_rate"] for row in run.history] for run in (whole, resumed)]
    assert rates[0] == rates[1]


def test_describe_steps_names_what_follows_from_them():
    preset = Recipe.of({"preset": "yolo", "training": {"epochs": 6, "batch_size": 4}})
    line = describe_steps(scale_to_batch(preset), 100, nominal=16)
    for part in (
        "600 steps of 4",
        "0.0005,",
        "0.00025 (",
        "16 images",
        "30 steps",
        "60 steps",
        "4 of 6 epochs",
    ):
        assert part in line
    assert describe_steps(Recipe.of({}), 100) == ""


@pytest.mark.parametrize(
    ("epochs", "share", "steps", "mixed"),
    [
        (100, 0.1, 0, 90),
        (6, 0.1, 0, 5),
        (1, 0.1, 0, 1),
        (5, 0, 0, 5),
        (4, 0.9, 0, 1),
        (6, 0.1, 25, 3),
        (6, 0.1, 900, 0),
    ],
)
def test_count_mixed_epochs_leaves_a_share_and_steps(epochs, share, steps, mixed):
    config = AugmentationConfig(close_share=share, close_steps=steps)
    assert count_mixed_epochs(config, epochs, 10) == mixed
