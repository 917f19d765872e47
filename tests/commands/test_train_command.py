"""`blemish train`: options set recipe keys, mistakes are refused before torch, `--dry-run` trains nothing."""

import json
import os
import resource
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from blemish import cli
from blemish.commands import train_command
from blemish.config.recipe import read_recipe
from blemish.testing import raises

# Runs the command line as a process of its own, without torch: importing it fails.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from blemish.cli import main
sys.argv = ["blemish", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """20 images in two folders."""
    root = tmp_path_factory.mktemp("photos")
    for label in ("dent", "clean"):
        (root / label).mkdir()
        for i in range(10):
            pixels = np.random.default_rng(i).integers(0, 255, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{i}.png")
    return root


def run(*arguments, check=True):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "train", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--model", "yolo13n"], ("'yolo13n'", "'yolo12n'")),
        (["--recipe", "solar-defectiv"], ("solar-defectiv", "'solar-defective'")),
        (["--set", "training.epoch=3"], ("'training.epoch'", "'epochs'")),
        (["--set", "training.loss.name=focl"], ("'focl'", "'focal'")),
        (["--set", "training.monitor=macro_f2"], ("training.monitor", "'macro_f1'")),
        (["--set", "augmentation.transforms=[{name: blurr}]"], ("'blurr'",)),
        (["--set", "training.callbacks=[{name: x}]"], ("'x'",)),
        (["--set", "imgsz=640"], ("'imgsz'", "model.input_size")),
        (["--set", "model.options.patch=3"], ("patch", "resnet18")),
        (["--task", "detektion"], ("task", "'detektion'")),
        (["--batch-size", "many"], ("training.batch_size", "or 'auto'", "'many'")),
        (["--task", "detection"], ("resnet18", "detection")),
        (["--config", "solar-defective"], ("--recipe solar-defective",)),
        (["--data", "nowhere"], ("nowhere",)),
        (["--device", "gpu"], ("'gpu'", "'cpu'")),
    ],
)
def test_train_refuses_a_mistake_without_torch(photos, arguments, facts):
    data = [] if "--data" in arguments else ["--data", photos]
    done = run(*data, *arguments, check=False)
    assert done.returncode == 2
    for fact in facts:
        assert fact in done.stderr
    assert "Traceback" not in done.stderr


def test_train_refuses_an_empty_folder_before_weights_are_downloaded(tmp_path):
    done = run("--data", tmp_path, "--json", check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "bad-dataset.empty-folder"


def test_train_refuses_a_wrong_name_within_a_second(photos):
    """CPU time, because other processes may run at the same time; the best of three runs."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--data", photos, "--model", "yolo13n", check=False).returncode == 2
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1


def test_dry_run_prints_the_plan_without_torch(photos, tmp_path):
    done = run("--data", photos, "--epochs", 3, "--batch-size", 4, "--weights", "none", "--dry-run")
    for fact in ("resnet18", "classification", "clean, dent", "16 train", "4 val", "12 (4 per epoch)"):
        assert fact in done.stdout
    assert "macro_f1" in done.stdout


def test_dry_run_json(photos):
    options = ["--lr", 0.01, "--input-size", 64, "--task", "classification", "--format", "folders"]
    done = run("--data", photos, *options, "--dry-run", "--json")
    document = json.loads(done.stdout)
    assert (document["schema_version"], document["dry_run"]) == (1, True)
    assert document["images"] == {"train": 16, "val": 4}
    assert (document["steps_per_epoch"], document["steps"]) == (1, 30)
    recipe = document["recipe"]
    assert recipe["training"]["optimizer"]["learning_rate"] == 0.01
    assert recipe["model"]["input_size"] == 64
    assert recipe["data"]["format"] == "folders"
    assert recipe["task"] == "classification"


def test_dry_run_of_a_run_to_resume(photos, tmp_path):
    recipe = read_recipe(overrides={"data.path": str(photos), "training.epochs": 5})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert "5, batch size 32" in run("--resume", tmp_path, "--dry-run").stdout


def test_resume_refuses_other_options_and_folders_without_a_run(photos, tmp_path):
    (tmp_path / "recipe.yaml").write_text(read_recipe().to_yaml())
    for option in (["--model", "resnet50"], ["--epochs", 3], ["--lr", 0.1], ["--recipe", "solar-defective"]):
        done = run("--resume", tmp_path, *option, check=False)
        assert done.returncode == 2
        assert option[0] in done.stderr
    done = run("--resume", tmp_path / "nothing", check=False)
    assert done.returncode == 2
    assert "recipe.yaml" in done.stderr


def test_options_override_the_recipe_and_set_overrides_both(monkeypatch, photos):
    chosen: list[Any] = []
    monkeypatch.setattr(train_command, "_check_before_torch", chosen.append)
    app = cli.build_app(["train"])
    arguments = ["--data", str(photos), "--recipe", "solar-defective", "--epochs", "9"]
    arguments += ["--batch-size", "auto", "--lr", "0.5", "--input-size", "32"]
    arguments += ["--set", "training.epochs=4", "--dry-run"]
    CliRunner().invoke(app, ["train", *arguments])
    (recipe,) = chosen
    assert (recipe.training.epochs, recipe.training.batch_size) == (4, "auto")
    assert recipe.training.optimizer.learning_rate == 0.5
    assert recipe.model.input_size == 32
    assert recipe.name == "solar-defective"


def test_config_option_points_to_recipe():
    with raises("bad-recipe.renamed-option", "--config x.yaml", "--recipe x.yaml"):
        train_command.train(config="x.yaml")


def test_train_help_has_an_example_and_hides_the_old_option():
    result = CliRunner().invoke(cli.build_app(["train"]), ["train", "--help"])
    assert result.exit_code == 0
    assert "blemish train --data photos/" in result.output
    assert "--recipe" in result.output
    assert "--config" not in result.output
