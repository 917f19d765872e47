"""Losses, transforms and callbacks from outside: their options reach the builder, in Python and by recipe."""

from typing import Any, cast

import numpy as np
import pytest
import torch

from blemish.config.schema import AugmentationConfig, TransformConfig
from blemish.config.training_schema import CallbackConfig, LossConfig
from blemish.structures import Task
from blemish.testing import raises
from blemish.training import Callback, register_callback, register_loss, register_transform
from blemish.training.augmentation.color_transforms import COLORS, adjust_color
from blemish.training.augmentation.image_augmentation import augment_pixels, draw_params
from blemish.training.augmentation.transforms import TRANSFORMS, build_transforms
from blemish.training.callback_registry import CALLBACKS, build_callbacks
from blemish.training.image_loss import ImageLoss
from blemish.training.loss_registry import LOSSES, build_loss, losses_of
from blemish.training.run import train

CALLS: list[Any] = []


class Recorder(Callback):
    def __init__(self, *, label: str = "default"):
        self.label = label

    def on_train_start(self, recipe, folder):
        CALLS.append((self.label, "start", recipe.training.epochs, folder.name))

    def on_epoch_end(self, metrics):
        CALLS.append((self.label, "epoch", metrics["epoch"], {"train_loss", "macro_f1"} <= set(metrics)))

    def on_train_end(self):
        CALLS.append((self.label, "end"))


class Inverted:
    def __init__(self, *, strength: float = 1.0):
        if strength > 1:
            raise ValueError(f"strength: expected at most 1, got {strength}")
        self.strength = strength

    def draw(self, random):
        amount = self.strength * random.uniform(0.5, 1)
        return lambda pixels: (pixels * (1 - amount) + (255 - pixels) * amount).astype(pixels.dtype)


class Failing(Callback):
    def on_epoch_end(self, metrics):
        raise KeyError("no such column")


@pytest.fixture(autouse=True)
def plugins():
    CALLS.clear()

    @register_loss("scaled-bce", tasks=["multilabel", "classification"])
    def scaled_bce(*, task: object, scale: float, label_weights: torch.Tensor | None = None) -> Any:
        function = torch.nn.functional.binary_cross_entropy_with_logits
        return lambda outputs, target: scale * function(outputs, target, pos_weight=label_weights)

    register_transform("inverted")(Inverted)
    register_callback("recorder")(Recorder)
    register_callback("failing")(Failing)
    yield
    LOSSES.unregister("scaled-bce")
    TRANSFORMS.unregister("inverted")
    CALLBACKS.unregister("recorder")
    CALLBACKS.unregister("failing")


def test_build_loss_passes_options_and_label_weights():
    config = LossConfig(name="scaled-bce", options={"scale": 3.0}, class_weights="balanced")
    logits, target = torch.randn(4, 3), torch.eye(4)[:, :3]
    loss = ImageLoss(Task.MULTILABEL, config, np.array([1.0, 2.0, 3.0]))
    expected = 3 * torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target, pos_weight=torch.tensor([1.0, 2.0, 3.0])
    )
    torch.testing.assert_close(loss(logits, target), expected)
    assert loss.name == "scaled-bce"
    assert "scaled-bce" in losses_of(Task.MULTILABEL)
    assert losses_of(Task.MULTILABEL)[0] == "bce"
    assert losses_of(Task.DETECTION) == ()


def test_build_loss_refuses_options_it_does_not_take():
    with raises("bad-recipe.unknown-option", "scaled-bce", "'scal'", "'scale'"):
        build_loss(Task.MULTILABEL, LossConfig(name="scaled-bce", options={"scal": 1}))
    with raises("bad-recipe.unknown-option", "scaled-bce", "'task'"):
        build_loss(Task.MULTILABEL, LossConfig(name="scaled-bce", options={"task": "x", "scale": 1}))
    with raises("bad-recipe.invalid-option", "scaled-bce", "scale"):
        build_loss(Task.MULTILABEL, LossConfig(name="scaled-bce"))
    with raises("bad-recipe.unused-key", "training.loss.gamma", "scaled-bce", "focal"):
        build_loss(Task.MULTILABEL, LossConfig(name="scaled-bce", gamma=1, options={"scale": 1}))
    with raises("bad-recipe.loss-of-another-task", "scaled-bce", "localization"):
        build_loss(Task.LOCALIZATION, LossConfig(name="scaled-bce"))
    with raises("unknown-name.loss", "'scaled-bc'", "'scaled-bce'"):
        build_loss(Task.MULTILABEL, LossConfig(name="scaled-bc"))


def test_smooth_l1_takes_beta_as_an_option():
    boxes, target = torch.tensor([[0.3, 0.3, 0.3, 0.3]]), torch.zeros(1, 4)
    for beta in (0.1, 1.0):
        loss = ImageLoss(Task.LOCALIZATION, LossConfig(name="smooth-l1", options={"beta": beta}))
        expected = torch.nn.functional.smooth_l1_loss(boxes, target, beta=beta)
        torch.testing.assert_close(loss(boxes, target), expected)
    default = ImageLoss(Task.LOCALIZATION, LossConfig(name="smooth-l1"))
    assert default(boxes, target) == torch.nn.functional.smooth_l1_loss(boxes, target, beta=0.1)


def test_transforms_are_drawn_by_probability_and_applied_in_order():
    pixels = np.full((4, 5, 3), 250, np.uint8)
    config = AugmentationConfig(
        transforms=(TransformConfig(name="inverted", options={"strength": 0.5}, probability=0.5),)
    )
    built = build_transforms(config.transforms)
    random = np.random.default_rng(0)
    params = [draw_params(config, random, transforms=built) for _ in range(400)]
    assert abs(sum(bool(p.transforms) for p in params) / 400 - 0.5) < 0.1
    changed = next(p for p in params if p.transforms)
    assert (augment_pixels(changed, pixels) < 200).all()
    assert not config.is_off
    twice = AugmentationConfig(
        transforms=(TransformConfig(name="inverted"), TransformConfig(name="brightness"))
    )
    drawn = draw_params(twice, np.random.default_rng(1), transforms=build_transforms(twice.transforms))
    assert len(drawn.transforms) == 2
    expected = drawn.transforms[1](drawn.transforms[0](pixels))
    assert np.array_equal(augment_pixels(drawn, pixels), expected)


def test_draws_of_other_changes_do_not_depend_on_transforms():
    config = AugmentationConfig(horizontal_flip=0.5, brightness=0.3, rotation_degrees=10)
    more = config.model_copy(update={"transforms": (TransformConfig(name="inverted"),)})
    plain = draw_params(config, np.random.default_rng(3))
    extended = draw_params(more, np.random.default_rng(3), transforms=build_transforms(more.transforms))
    assert (plain.flip_horizontal, plain.angle, plain.color) == (
        extended.flip_horizontal,
        extended.angle,
        extended.color,
    )


@pytest.mark.parametrize("name", COLORS)
def test_builtin_color_transforms_equal_their_recipe_keys(name):
    (built,) = build_transforms((TransformConfig(name=name, options={"max_change": 0.3}),))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    changed = built.transform.draw(np.random.default_rng(5))(pixels)
    neutral = 0.0 if name == "hue" else 1.0
    amount = float(np.random.default_rng(5).uniform(neutral - 0.3, neutral + 0.3))
    expected = adjust_color(torch.from_numpy(pixels.transpose(2, 0, 1).copy()), name, amount)
    assert np.array_equal(changed, expected.numpy().transpose(1, 2, 0))
    assert not np.array_equal(changed, pixels)


def test_build_transforms_refuses_wrong_names_and_options():
    with raises("unknown-name.transform", "'invertd'", "'inverted'"):
        build_transforms((TransformConfig(name="invertd"),))
    with raises("bad-recipe.unknown-option", "transforms.0", "inverted", "'strengt'", "'strength'"):
        build_transforms((TransformConfig(name="inverted", options={"strengt": 1}),))
    with raises("bad-recipe.invalid-option", "transforms.0", "inverted", "strength"):
        build_transforms((TransformConfig(name="inverted", options={"strength": 2}),))
    with raises("bad-recipe.invalid-option", "hue", "max_change", "0.5"):
        build_transforms((TransformConfig(name="hue", options={"max_change": 0.7}),))


def test_build_callbacks_refuses_wrong_names_options_and_objects():
    with raises("unknown-name.callback", "'recordr'", "'recorder'"):
        build_callbacks((CallbackConfig(name="recordr"),))
    with raises("bad-recipe.unknown-option", "callbacks.0", "recorder", "'labl'", "'label'"):
        build_callbacks((CallbackConfig(name="recorder", options={"labl": "x"}),))
    with raises("bad-input.not-a-callback", "list"):
        build_callbacks((), cast("Any", [[]]))


def test_train_calls_callbacks_of_the_recipe_and_of_python(recipe, tmp_path):
    chosen = recipe(
        training__epochs=2, training__callbacks=[{"name": "recorder", "options": {"label": "recipe"}}]
    )
    train(chosen, output=tmp_path / "run", device="cpu", callbacks=[Recorder(label="python")])
    expected = []
    for event in (("start", 2, "run"), ("epoch", 1.0, True), ("epoch", 2.0, True), ("end",)):
        expected += [("recipe", *event), ("python", *event)]
    assert CALLS == expected


def test_resumed_training_calls_the_callbacks_of_its_recipe(recipe, tmp_path):
    chosen = recipe(training__epochs=1, training__callbacks=[{"name": "recorder"}])
    train(chosen, output=tmp_path / "run", device="cpu")
    path = tmp_path / "run" / "recipe.yaml"
    path.write_text(path.read_text().replace("epochs: 1\n", "epochs: 2\n", 1))
    CALLS.clear()
    train(resume=tmp_path / "run", device="cpu")
    assert [call[1] for call in CALLS] == ["start", "epoch", "end"]
    assert CALLS[1][2] == 2


def test_a_failing_callback_of_the_recipe_ends_the_training_after_the_checkpoint(recipe, tmp_path):
    chosen = recipe(training__epochs=2, training__callbacks=[{"name": "failing"}])
    with raises("training-failed.callback", "failing", "on_epoch_end", "no such column"):
        train(chosen, output=tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "checkpoints" / "epoch-00001.ckpt").is_file()
    with pytest.raises(KeyError, match="no such column"):
        train(recipe(training__epochs=1), output=tmp_path / "b", device="cpu", callbacks=[Failing()])


def test_train_with_a_loss_and_a_transform_from_outside(recipe, tmp_path):
    chosen = recipe(
        training__epochs=1,
        training__loss={"name": "scaled-bce", "options": {"scale": 1000.0}},
        augmentation__transforms=[{"name": "inverted", "probability": 0.5}],
    )
    run = train(chosen, output=tmp_path / "run", device="cpu")
    assert run.history[0]["train_loss"] > 100
