"""`blemish config`: the built-in recipes, and every key of a recipe."""

import json

from typer.testing import CliRunner

from blemish.commands.config_command import app
from blemish.config.builtin import builtin_recipes
from blemish.config.recipe import read_recipe
from blemish.config.schema_reference import describe_schema

RUNNER = CliRunner()


def test_config_show_prints_every_key_with_its_meaning():
    done = RUNNER.invoke(app, ["show", "solar-defective"])
    assert done.exit_code == 0
    for row in describe_schema():
        assert f" {row.key}: " in done.output
        assert row.meaning.replace("`", "") in done.output
    assert "* training.epochs: 6  (integer >= 1; default 30)" in done.output
    assert "  training.seed: 0  (integer >= 0; default 0)" in done.output


def test_config_show_json_contains_the_values_of_the_recipe():
    done = RUNNER.invoke(app, ["show", "solar-defective", "--json"])
    document = json.loads(done.stdout)
    assert (document["schema_version"], document["recipe"]) == (1, "solar-defective")
    keys = {row["key"]: row for row in document["keys"]}
    assert set(keys) == {row.key for row in describe_schema()}
    assert (keys["training.epochs"]["value"], keys["training.epochs"]["is_changed"]) == (6, True)
    assert set(keys["training.epochs"]) == {"key", "type", "default", "value", "is_changed", "meaning"}


def test_config_show_takes_a_run_and_no_recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(read_recipe(settings=["training.epochs=5"]).to_yaml())
    done = RUNNER.invoke(app, ["show", str(tmp_path)])
    assert "* training.epochs: 5" in done.output
    assert "  training.epochs: 30" in RUNNER.invoke(app, ["show"]).output


def test_config_list_names_every_builtin_recipe():
    done = RUNNER.invoke(app, ["list"])
    assert done.exit_code == 0
    document = json.loads(RUNNER.invoke(app, ["list", "--json"]).stdout)
    assert [row["name"] for row in document["recipes"]] == list(builtin_recipes())
    for row in document["recipes"]:
        assert row["name"] in done.output
        assert row["model"] in done.output
    bases = {row["name"]: row["base"] for row in document["presets"]}
    assert (bases["yolo"], bases["few-images"]) == (None, "yolo")
    assert "architectures with the preset yolo" in done.output


def test_config_show_takes_a_preset():
    shown = RUNNER.invoke(app, ["show", "few-images"])
    assert shown.exit_code == 0
    assert "* training.batch_size: 8" in shown.output and "* augmentation.mosaic: 1.0" in shown.output
