"""Recipes: read without torch, every mistake one sentence with the nearest name."""

import subprocess
import sys
from pathlib import Path

import pytest

from blemish.config.recipe import Recipe, read_recipe
from blemish.errors import BadRecipe

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/*.yaml"))


def test_reading_a_recipe_loads_no_torch():
    code = (
        "import sys; from blemish.training import read_recipe; read_recipe(settings=['training.epochs=2']);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.epoch=3", "'training.epoch'; did you mean 'epochs'"),
        ("trainin.epochs=3", "did you mean 'training'"),
        ("model.hed.dropout=.1", "did you mean 'head'"),
        ("augmentation.random_resized_crop={scal: 1}", "did you mean 'scale'"),
        ("training.loggers=[{nam: x}]", "did you mean 'name'"),
        ("training.epochs=many", "training.epochs"),
        (
            "training.schedule={name: steps, patience: 5}",
            "steps has no use for patience, which is of plateau",
        ),
        ("training.schedule={name: one-cycle, warmup_epochs: 1}", "one-cycle has no use for warmup_epochs"),
        ("training.optimizer.momentum=.8", "adamw has no use for momentum, which is of sgd; leave it out"),
        ("training.epochs=0", "training.epochs"),
        ("training.batch_size=0", "training.batch_size: at least 1, or auto"),
        ("training.batch_size=true", "training.batch_size: takes a number, not true or false"),
        ("training.epochs=yes", "training.epochs: takes a number"),
        ("augmentation.random_resized_crop.scale=[true, 1]", "scale: takes a number"),
        ("model.input_size={}", "model.input_size: give pixels"),
        (
            "training.schedule.milestones=[3, -1]",
            "milestones.1: .*greater than or equal",
        ),
        ("training.loss.name=hinge", "'cross-entropy', 'bce'"),
        ("training.optimizer.learning_rate=-1", "greater than 0"),
        ("training.precision=fp8", "'fp32', 'bf16' or 'fp16'"),
        ("model.head.dropout=[.1, .2, .3]", "one before each linear layer"),
        ("model.head.dropout=1", "lies in \\[0, 1\\)"),
        ("data.split.fractions={train: .5, val: .6}", "add up to 1"),
        ("data.split.fractions={train: .5, test: .5}", "at least train and val"),
        ("augmentation.horizontal_flip=2", "less than or equal to 1"),
        ("augmentation.random_resized_crop.scale=[.5, .2]", "smallest <= largest"),
        ("model=3", "recipe: model"),
        ("training.epochs", "write it as key=value"),
        ("training.epochs={", "cannot be read as YAML"),
    ],
)
def test_a_mistake_is_one_sentence(setting, said):
    with pytest.raises(BadRecipe, match=said) as caught:
        read_recipe(settings=[setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training: [", "line 1.*no YAML"),
        ("- a\n- b\n", "a list of `key: value` lines"),
        ("just words", "a list of `key: value` lines"),
        ("training:\n  epoch: 3\n", "r.yaml: unknown key 'training.epoch'"),
    ],
)
def test_a_broken_file_is_told_with_its_name(tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(BadRecipe, match=said):
        read_recipe(tmp_path / "r.yaml")


def test_a_missing_or_binary_file_is_told(tmp_path):
    with pytest.raises(BadRecipe, match="no such recipe"):
        read_recipe(tmp_path / "nowhere.yaml")
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRecipe, match="cannot be read"):
        read_recipe(tmp_path / "r.yaml")


def test_later_ones_win(tmp_path):
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
def test_the_words_on_and_off_are_taken_as_written(word):
    assert read_recipe(settings=[f"training.feature_cache={word}"]).training.feature_cache == word


def test_a_resolved_recipe_reads_back_as_itself(tmp_path):
    recipe = read_recipe(settings=["model.head={hidden: [4], dropout: .5}", "training.batch_size=auto"])
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert read_recipe(tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_shipped_recipe_reads(path):
    assert read_recipe(path).name == path.stem


RESNET = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
GROUPS = {
    "damagelens-resnet18": {"layer3": 1e-5, "layer4": 1e-5, "head": 1e-4},
    "damagelens-fusion": {
        "efficientnet.5": 1e-5, "efficientnet.6": 3e-5, "efficientnet.7": 3e-5,
        "convnext.2": 3e-5, "convnext.3": 3e-5, "convnext.norm": 3e-5, "head": 1e-4,
    },
    "solar-crack-inactive": dict.fromkeys(RESNET, 1e-4),
    "localize-resnet50-scratch": dict.fromkeys(RESNET, 1e-3),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_the_systems_learn_what_they_say_at_the_rates_they_say(name):
    from blemish.models import create
    from blemish.training.optimizers import freeze, parameter_groups

    recipe = read_recipe(next(p for p in RECIPES if p.stem == name))
    options = {**recipe.model.options, **({"coord_max": 100} if recipe.model.options else {})}
    if recipe.model.head:
        options["head"] = recipe.model.head
    network = create(recipe.model.name, task=recipe.task, label_count=6, **options)
    freeze(network, recipe.model.trainable)
    rate = {id(p): g["lr"] for g in parameter_groups(network, recipe.training.optimizer) for p in g["params"]}
    found = {}
    for stage in network.stages:
        rates = {rate.get(id(p)) for p in network.parameters_of(stage)}
        assert len(rates) == 1, stage
        if rates != {None}:
            found[stage] = rates.pop()
    assert found == GROUPS[name]
