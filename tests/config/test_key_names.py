"""Renamed keys are errors in a user's recipe and translated in a run's; other tools' keys point to ours."""

import warnings

import pytest
import yaml

from blemish.config import key_names
from blemish.config.architectures import describe
from blemish.config.detector_options import SSDOptions
from blemish.config.key_names import PEER_KEYS, RENAMED_KEYS, RENAMED_OPTIONS, RenamedKeyWarning
from blemish.config.recipe import Recipe, read_recipe, read_run_recipe
from blemish.config.recipe_options import check_architecture
from blemish.testing import raises


def field_at(dotted):
    """Return whether a recipe has this key; keys below `options` are the architecture's."""
    section = Recipe
    *above, last = dotted.split(".")
    for name in above:
        if name == "options":
            return last in SSDOptions.model_fields
        annotation = section.model_fields[name].annotation
        section = next(
            (a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")),
            None,
        )
    return last in section.model_fields


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_renamed_keys_are_refused_with_the_new_name(old, new):
    with raises("bad-recipe.renamed-key", old, new):
        read_recipe(settings=[f"{old}=1"])
    assert field_at(new)
    assert not field_at(old)


def test_renamed_values_are_refused_with_the_new_value():
    with raises("bad-recipe.renamed-key", "training.schedule.name=multistep"):
        read_recipe(settings=["training.schedule.name=steps"])


@pytest.mark.parametrize(("old", "new"), RENAMED_OPTIONS.items())
def test_renamed_options_are_refused_with_the_new_name(old, new):
    name = next(
        name
        for name in ("ssd300-resnet50", "fasterrcnn-resnet18-fpn")
        if new in describe(name).options.model_fields
    )
    with raises("bad-recipe.renamed-key", name, repr(old), new):
        check_architecture(read_recipe(settings=[f"model.name={name}", f"model.options.{old}=1"]))
    assert old not in describe(name).options.model_fields


@pytest.mark.parametrize(("key", "target"), PEER_KEYS.items())
def test_keys_of_other_tools_point_to_ours(key, target):
    if target.startswith(";"):
        with raises("bad-recipe.unknown-key", repr(key), target):
            read_recipe(settings=[f"{key}=1"])
    else:
        with raises("bad-recipe.unknown-key", repr(key), f"write {target}"):
            read_recipe(settings=[f"{key}=1"])
        assert field_at(target)


@pytest.mark.parametrize(
    ("setting", "target"),
    [
        ("training.lr=1e-3", "training.optimizer.learning_rate"),
        ("training.optimizer.lr=1e-3", "training.optimizer.learning_rate"),
        ("training.weight_decay=0", "training.optimizer.weight_decay"),
        ("model.imgsz=640", "model.input_size"),
        ("data.batch_size=4", "training.batch_size"),
    ],
)
def test_keys_of_other_tools_point_to_ours_in_any_section(setting, target):
    with raises("bad-recipe.unknown-key", f"write {target}"):
        read_recipe(settings=[setting])


OLD_RUN = {
    "model": {
        "name": "hybrid",
        "weights_licence": "mine",
        "options": {"suppress_iou": 0.6, "detector_options": {"negatives_a_positive": 2}},
    },
    "data": {
        "licence": "ours",
        "photo_cache_gb": 1,
        "split": {"anew": True},
        "tiles": {"size": 64, "empty": 1, "limit_megapixels": 9, "min_visible": 0.4},
    },
    "augmentation": {"zoom_out_side": 3, "random_resized_crop": {"min_box_share": 0.7}},
    "training": {
        "accumulate": 4,
        "clip_gradient": 5,
        "optimizer": {"groups": {"head": 0.1}},
        "schedule": {"name": "steps", "milestones": [3], "final_factor": 0.0, "min_factor": 0.0, "rise": 0.3},
    },
}


def test_read_run_recipe_translates_old_keys_with_one_warning(tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(OLD_RUN))
    with pytest.warns(RenamedKeyWarning, match=r"recipe\.yaml") as caught:
        recipe = read_run_recipe(tmp_path, {"training.epochs": 2, "data.path": None})
    assert len(caught) == 1
    assert recipe.model.options == {"nms_iou": 0.6, "detector_options": {"neg_pos_ratio": 2}}
    assert (recipe.model.weights_license, recipe.data.license) == ("mine", "ours")
    assert (recipe.data.image_cache_gb, recipe.data.split.resplit) == (1, True)
    tiles = recipe.data.tiles
    assert (tiles.empty_ratio, tiles.max_megapixels, tiles.min_visibility) == (1, 9, 0.4)
    assert recipe.augmentation.max_zoom_out == 3
    assert recipe.augmentation.random_resized_crop.min_box_visibility == 0.7
    training = recipe.training
    assert (training.accumulate_grad_batches, training.gradient_clip_val, training.epochs) == (4, 5, 2)
    assert training.optimizer.lr_by_stage == {"head": 0.1}
    assert (training.schedule.name, training.schedule.milestones) == ("multistep", (3,))


@pytest.mark.parametrize(("name", "kept"), [("cosine", 0.2), ("plateau", 0.3)])
def test_read_run_recipe_keeps_the_bound_that_the_schedule_used(tmp_path, name, kept):
    schedule = {"name": name, "final_factor": 0.2, "min_factor": 0.3}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"training": {"schedule": schedule}}))
    with pytest.warns(RenamedKeyWarning):
        assert read_run_recipe(tmp_path).training.schedule.min_lr_ratio == kept


def test_read_run_recipe_leaves_a_new_run_alone(tmp_path):
    # A third party's architecture may use one of the old option names for itself.
    recipe = read_recipe(settings=["model.options.min_iou=.1"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_run_recipe(tmp_path) == recipe
    assert recipe.schema_version == key_names.SCHEMA_VERSION


def test_read_run_recipe_without_old_keys_does_not_warn(tmp_path):
    (tmp_path / "recipe.yaml").write_text("training: {epochs: 3}\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_run_recipe(tmp_path).training.epochs == 3


def test_read_run_recipe_refuses_a_folder_without_a_recipe(tmp_path):
    with raises("bad-input.not-a-run", tmp_path, "recipe.yaml"):
        read_run_recipe(tmp_path)
