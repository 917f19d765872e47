"""`Recipe`, `read_recipe` and the built-in recipes: read without torch, every mistake is one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from blemish.config.architectures import all_architectures
from blemish.config.builtin import builtin_presets, builtin_recipes, find_recipe
from blemish.config.recipe import Recipe, read_recipe, read_run_recipe
from blemish.testing import raises

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/*.yaml"))


def test_read_recipe_does_not_import_torch():
    code = (
        "import sys; from blemish.training import read_recipe; read_recipe(settings=['training.epochs=2']);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("setting", "reason", "facts"),
    [
        ("training.epoch=3", "unknown-key", ("'training.epoch'", "'epochs'")),
        ("trainin.epochs=3", "unknown-key", ("'trainin'", "'training'")),
        ("model.hed.dropout=.1", "unknown-key", ("'model.hed'", "'head'")),
        (
            "augmentation.random_resized_crop={scal: 1}",
            "unknown-key",
            ("random_resized_crop.scal'", "'scale'"),
        ),
        ("training.loggers=[{nam: x}]", "unknown-key", ("training.loggers.0.nam", "'name'")),
        ("training.epochs=many", "invalid-value", ("training.epochs", "'many'")),
        (
            "training.schedule={name: multistep, patience: 5}",
            "unused-key",
            ("training.schedule", "multistep", "patience", "plateau"),
        ),
        (
            "training.schedule={name: multistep, min_lr_ratio: .1}",
            "unused-key",
            ("min_lr_ratio", "cosine, plateau"),
        ),
        (
            "training.schedule={name: one-cycle, warmup_epochs: 1}",
            "unused-key",
            ("one-cycle", "warmup_epochs"),
        ),
        (
            "training.optimizer.momentum=.8",
            "unused-key",
            ("training.optimizer", "adamw", "momentum", "sgd"),
        ),
        ("training.epochs=0", "invalid-value", ("training.epochs", "got 0")),
        ("training.batch_size=0", "invalid-value", ("training.batch_size", "1", "auto", "got 0")),
        ("training.batch_size=true", "invalid-value", ("training.batch_size", "got True")),
        ("training.epochs=yes", "invalid-value", ("training.epochs", "got True")),
        ("augmentation.random_resized_crop.scale=[true, 1]", "invalid-value", ("scale", "true or false")),
        ("model.input_size={}", "invalid-value", ("model.input_size",)),
        ("training.schedule.milestones=[3, -1]", "invalid-value", ("milestones.1", "1", "-1")),
        ("training.optimizer.learning_rate=-1", "invalid-value", ("learning_rate", "greater than 0")),
        ("training.precision=fp8", "invalid-value", ("training.precision", "'fp32', 'bf16' or 'fp16'")),
        ("model.head.dropout=[.1, .2, .3]", "invalid-value", ("model.head", "dropout")),
        ("model.head.dropout=1", "invalid-value", ("dropout", "[0, 1)")),
        ("data.split.fractions={train: .5, val: .6}", "invalid-value", ("data.split.fractions", "1")),
        ("data.split.fractions={train: .5, test: .5}", "invalid-value", ("fractions", "train and val")),
        ("augmentation.horizontal_flip=2", "invalid-value", ("horizontal_flip", "1", "got 2")),
        ("augmentation.random_resized_crop.scale=[.5, .2]", "invalid-value", ("scale", "0 <")),
        ("model=resnet50", "invalid-value", ("model", "'resnet50'", "model.name")),
        ("training.optimizer=sgd", "invalid-value", ("'sgd'", "training.optimizer.name")),
        ("data=photos", "invalid-value", ("'photos'", "data.path")),
        ("training.epochs", "invalid-setting", ("--set training.epochs", "key=value")),
        ("training.epochs={", "invalid-setting", ("--set training.epochs={", "YAML")),
    ],
)
def test_read_recipe_refuses_a_wrong_setting(setting, reason, facts):
    with raises(f"bad-recipe.{reason}", *facts) as caught:
        read_recipe(settings=[setting])
    assert "\n" not in caught.message


@pytest.mark.parametrize(
    ("text", "reason", "facts"),
    [
        ("training: [", "invalid-yaml", ("r.yaml:1",)),
        ("- a\n- b\n", "invalid-yaml", ("r.yaml", "`key: value`")),
        ("just words", "invalid-yaml", ("r.yaml", "`key: value`")),
        ("training:\n  epoch: 3\n", "unknown-key", ("r.yaml", "'training.epoch'")),
    ],
)
def test_read_recipe_names_the_broken_file(tmp_path, text, reason, facts):
    (tmp_path / "r.yaml").write_text(text)
    with raises(f"bad-recipe.{reason}", *facts):
        read_recipe(tmp_path / "r.yaml")


def test_read_recipe_refuses_a_missing_and_a_binary_file(tmp_path):
    with raises("bad-recipe.recipe-not-found", "nowhere.yaml"):
        read_recipe(tmp_path / "nowhere.yaml")
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with raises("bad-recipe.unreadable-file", "r.yaml"):
        read_recipe(tmp_path / "r.yaml")


def test_read_recipe_later_sources_win(tmp_path):
    (tmp_path / "r.yaml").write_text("training: {epochs: 3, batch_size: 8, patience: 2}\n")
    recipe = read_recipe(
        tmp_path / "r.yaml",
        overrides={"training.epochs": 4, "training.batch_size": 16, "model.name": None},
        settings=["training.epochs=5", "training.optimizer.lr_by_stage.layer3=1e-5"],
    )
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.patience) == (5, 16, 2)
    assert recipe.training.optimizer.lr_by_stage == {"layer3": 1e-5}
    assert recipe.model.name == Recipe().model.name


@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_feature_cache_takes_on_and_off_unquoted(word):
    assert read_recipe(settings=[f"training.feature_cache={word}"]).training.feature_cache == word


def test_to_yaml_reads_back_equal(tmp_path):
    recipe = read_recipe(settings=["model.head={hidden: [4], dropout: .5}", "training.batch_size=auto"])
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert read_recipe(tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_builtin_recipe_reads_and_bears_its_file_name(path):
    assert read_recipe(path).name == path.stem


def test_find_recipe_by_name():
    assert {path.stem for path in RECIPES} == set(builtin_recipes())
    assert find_recipe("solar-defective") in RECIPES
    with raises("bad-recipe.recipe-not-found", "solar-defectiv", "'solar-defective'"):
        find_recipe("solar-defectiv")


def test_read_recipe_without_a_recipe_takes_the_architectures_preset():
    recipe = read_recipe(overrides={"model.name": "yolo11n-seg"}, settings=["training.batch_size=4"])
    assert recipe.preset == "yolo"
    assert recipe.name == ""
    assert recipe.augmentation.mosaic == 1
    assert (recipe.training.batch_size, recipe.training.ema) == (4, "auto")
    assert read_recipe(overrides={"model.name": "resnet18"}) == Recipe.of({"model": {"name": "resnet18"}})
    assert read_recipe(overrides={"model.name": "no-such"}).preset == "none"  # checked with the recipe


def test_read_recipe_with_preset_none_keeps_the_defaults():
    recipe = read_recipe(overrides={"model.name": "yolo11n"}, settings=["preset=none"])
    assert recipe == Recipe.of({"model": {"name": "yolo11n"}})


def test_recipe_of_merges_a_preset_below_its_keys():
    values = {"preset": "yolo", "training": {"schedule": {"warmup_share": 0.2}, "epochs": 3}}
    recipe = Recipe.of(values)
    assert recipe.training.schedule.warmup_share == 0.2
    assert recipe.training.schedule.min_lr_ratio == 0.01
    assert recipe.changed({"training.epochs": 4}).training.ema == "auto"
    by_steps = Recipe.of({"preset": "yolo", "training": {"schedule": {"warmup_steps": 7}}}).training.schedule
    assert (by_steps.warmup_steps, by_steps.warmup_share) == (7, 0)
    by_stage = {"training": {"optimizer": {"lr_by_stage": {"head": 1e-3}}}}
    assert Recipe.of({"preset": "rfdetr", **by_stage}).training.optimizer.lr_by_stage == {"head": 1e-3}


def test_recipe_of_with_another_method_takes_nothing_of_the_presets_section():
    recipe = read_recipe(
        overrides={"model.name": "yolo11n"},
        settings=["training.schedule.name=one-cycle", "training.optimizer.name=sgd"],
    )
    assert recipe.training.schedule.warmup_share == 0
    assert recipe.training.optimizer.weight_decay == 0.01
    assert recipe.training.gradient_clip_val == 10


def test_recipe_of_with_an_unknown_preset_names_the_nearest():
    with raises("bad-recipe.unknown-preset", "yola", "'yolo'"):
        Recipe.of({"preset": "yola"})


def test_preset_that_changes_another_one_is_for_its_architectures():
    recipe = read_recipe(overrides={"model.name": "yolo11n"}, settings=["preset=few-images"])
    optimizer = recipe.training.optimizer
    assert (recipe.preset, recipe.augmentation.mosaic, recipe.training.schedule.name) == (
        "few-images",
        1,
        "cosine",
    )
    assert (optimizer.lr_by_stage, optimizer.nominal_batch_size) == ({"backbone": 1e-4}, 8)
    assert Recipe.of(yaml.safe_load(recipe.to_yaml())) == recipe
    for model in ("ssd300-efficientnet-lite0", "resnet18"):
        with raises("bad-recipe.unsuitable-preset", "few-images", "yolo", model):
            read_recipe(overrides={"model.name": model}, settings=["preset=few-images"])


def test_read_recipe_takes_the_name_of_a_preset():
    assert read_recipe("few-images", overrides={"model.name": "yolo11n"}).preset == "few-images"
    with raises("bad-recipe.unsuitable-preset", "few-images"):
        read_recipe("few-images", overrides={"model.name": "rfdetr-nano"})


@pytest.mark.parametrize("model", [{"name": "yolo11nn"}, "yolo11n", None])
def test_recipe_of_with_a_preset_leaves_a_wrong_model_to_later_checks(model):
    values = {"preset": "few-images", "model": model}
    if isinstance(model, dict):
        assert Recipe.of(values).training.batch_size == 8
    else:
        with raises("bad-recipe.invalid-value", "model"):
            Recipe.of(values)


def test_recipe_changed_refuses_another_preset():
    recipe = read_recipe(overrides={"model.name": "yolo11n"})
    assert recipe.changed({"preset": "yolo"}) == recipe
    with raises("bad-recipe.preset-of-a-recipe", "yolo"):
        recipe.changed({"preset": "few-images"})


@pytest.mark.parametrize("name", builtin_presets())
def test_builtin_preset_sets_training_and_augmentation_only(name):
    recipe = read_recipe(builtin_presets()[name])
    assert recipe.model_fields_set <= {"training", "augmentation", "preset"}


def test_every_registered_preset_exists():
    assert {a.preset for a in all_architectures() if a.preset} <= set(builtin_presets())


def test_read_recipe_for_another_architecture_has_its_name():
    assert read_recipe("car-yolov8s").name == "car-yolov8s"
    assert read_recipe("car-yolov8s", overrides={"model.name": "yolo11n"}).name == ""
    assert read_recipe("car-yolov8s", overrides={"model.name": "yolov8s"}).name == "car-yolov8s"
    named = read_recipe("car-yolov8s", overrides={"model.name": "yolo11n"}, settings=["name=mine"])
    assert named.name == "mine"


def test_saved_recipe_with_a_preset_reads_back_equal(tmp_path):
    recipe = read_recipe(overrides={"model.name": "yolo11n"}, settings=["augmentation.mosaic=0"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert read_run_recipe(tmp_path) == recipe
