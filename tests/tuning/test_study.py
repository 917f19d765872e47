"""Studies: their trials, their files, interruption, and processes that share them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from blemish.config.recipe import Recipe, read_recipe
from blemish.config.tune_schema import SearchRange
from blemish.errors import TrainingFailed
from blemish.testing import raises
from blemish.tuning.objectives import check_few_space
from blemish.tuning.study import BEST_RECIPE, IMPORTANCE_FILE, Study, TrialResult

pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # of optuna's experimental classes

RATE, SIZE = "training.optimizer.learning_rate", "training.batch_size"
SPACE = {RATE: {"low": 1e-4, "high": 1e-1, "log": True}, SIZE: {"choices": [8, 16, 32]}}


def base(trials=8, space=SPACE, **tune):
    return Recipe.of({"tune": {"space": space, "trials": trials, "startup_trials": 3, **tune}})


def quadratic(recipe, folder, report):
    """Best at a learning rate of 0.01, and better with small batches."""
    import math

    rate = recipe.training.optimizer.learning_rate
    (folder / "model.onnx").write_bytes(b"x")
    return TrialResult(1 - (math.log10(rate) + 2) ** 2 - recipe.training.batch_size / 1000)


def open_study(folder, recipe=None, **options):
    return Study(folder, recipe or base(), metric="macro_f1", direction="max", **options)


def test_study_finds_better_values_than_the_recipes_own(tmp_path):
    study = open_study(tmp_path)
    lines: list[str] = []
    study.run(quadratic, lines.append)
    result = study.finish()
    assert len(lines) == 8 and result.trials == {"complete": 8}
    assert result.value > result.base_value == pytest.approx(1 - 1 - 0.032)
    best = read_recipe(tmp_path / BEST_RECIPE)
    assert best.training.optimizer.learning_rate == result.params[RATE]
    assert best.training.batch_size == result.params[SIZE] and not best.tune.space
    assert set(result.importance) == {RATE, SIZE}
    assert (tmp_path / IMPORTANCE_FILE).read_text().startswith("<svg xmlns=")
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert float(rows[0][RATE]) == 0.001 and rows[0][SIZE] == "32"  # the recipe's own values come first
    assert max(float(row["macro_f1"]) for row in rows) == result.value
    assert len(list(tmp_path.glob("trials/*/model.onnx"))) == 1  # that of the best trial


def test_study_continues_and_takes_more_trials(tmp_path):
    open_study(tmp_path, base(3)).run(quadratic)
    study = open_study(tmp_path, base(5))
    study.run(quadratic)
    assert study.finish().trials == {"complete": 5}
    with raises("bad-input.other-study", tmp_path):
        open_study(tmp_path, base(5, {RATE: {"low": 1e-3, "high": 1e-1}}))
    with raises("bad-input.other-study", tmp_path):
        open_study(tmp_path, base(5), few=True)


def test_study_stops_bad_trainings(tmp_path):
    def objective(recipe, folder, report):
        rate = recipe.training.optimizer.learning_rate
        for epoch in range(1, 9):
            report(epoch, -abs(rate - 0.001) * epoch)
        return TrialResult(-abs(rate - 0.001), 8)

    study = open_study(tmp_path, base(12, warmup_epochs=2))
    study.run(objective)
    counts = study.finish().trials
    assert counts["pruned"] > 0 and sum(counts.values()) == 12
    study = open_study(tmp_path / "none", base(5, pruner="none"))
    study.run(objective)
    assert study.finish().trials == {"complete": 5}


def test_study_repeats_the_trial_of_a_killed_process(tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(base(3).model_dump(mode="json", exclude_unset=True)))
    program = f"""
import os, sys, yaml
from pathlib import Path
from blemish.config.recipe import Recipe
from blemish.tuning.study import Study
recipe = Recipe.of(yaml.safe_load(Path({str(recipe)!r}).read_text()))
study = Study(Path({str(tmp_path / "study")!r}), recipe, metric="macro_f1", direction="max")
study.run(lambda *_: os._exit(9))
"""
    source = Path(__file__).parents[2] / "src"
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", program], env={"PYTHONPATH": str(source)})
    assert killed.returncode == 9
    study = open_study(tmp_path / "study", base(3))
    seen = []

    def objective(recipe, folder, report):
        seen.append(recipe.training.optimizer.learning_rate)
        return quadratic(recipe, folder, report)

    study.run(objective)
    result = study.finish()
    assert result.trials == {"fail": 1, "complete": 3}
    assert seen[0] == 0.001 and result.base_value is not None


def test_study_is_shared_by_processes(tmp_path):
    """Two processes run one study: exactly as many trials as asked for, and no number twice."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(base(7).model_dump(mode="json", exclude_unset=True)))
    program = f"""
import math, time
from pathlib import Path
from blemish.config.recipe import read_recipe
from blemish.tuning.study import Study, TrialResult
def objective(recipe, folder, report):
    return TrialResult(-abs(math.log10(recipe.training.optimizer.learning_rate) + 2))
recipe = read_recipe({str(recipe)!r})
study = Study(Path({str(tmp_path / "study")!r}), recipe, metric="macro_f1", direction="max")
study.run(objective, print)
"""
    source = Path(__file__).parents[2] / "src"
    command = [sys.executable, "-W", "ignore", "-c", program]
    both = [
        subprocess.Popen(command, env={"PYTHONPATH": str(source)}, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    lines = [line for process in both for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(int(line.split()[1].rstrip(":")) for line in lines) == list(range(7))
    assert open_study(tmp_path / "study", base(7)).finish().trials == {"complete": 7}


def test_study_records_failures_and_ends_if_nothing_succeeds(tmp_path):
    def fails(recipe, folder, report):
        raise TrainingFailed("the loss is not finite", reason="loss-not-finite")

    study = open_study(tmp_path / "a", base(3))
    with raises("training-failed.loss-not-finite"):
        study.run(fails)
    with raises("training-failed.no-trial"):
        study.finish()
    calls = []

    def sometimes(recipe, folder, report):
        calls.append(1)
        return fails(recipe, folder, report) if len(calls) == 2 else quadratic(recipe, folder, report)

    study = open_study(tmp_path / "b", base(3))
    study.run(sometimes)
    assert study.finish().trials == {"complete": 3, "fail": 1}


@pytest.mark.parametrize(
    ("space", "code"),
    [
        ({}, "bad-recipe.no-search-space"),
        ({"training.learning_rat": {"low": 1, "high": 2}}, "bad-recipe.unknown-key"),
        ({RATE: {"low": -1.0, "high": 1.0}}, "bad-recipe.invalid-value"),
        ({SIZE: {"choices": [8, "many"]}}, "bad-recipe.invalid-value"),
    ],
)
def test_study_checks_the_search_space(tmp_path, space, code):
    with raises(code):
        open_study(tmp_path / "study", base(3, space))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"low": 1},
        {"low": 2, "high": 1},
        {"choices": [1]},
        {"choices": [1, 2], "low": 1},
        {"low": 0, "high": 1, "log": True},
        {"low": 1, "high": 9, "step": 0},
        {"low": 1, "high": 9, "log": True, "step": 2},
    ],
)
def test_search_range_refuses_impossible_ranges(values):
    with raises("bad-recipe.invalid-value"):
        base(3, {RATE: values})


def test_search_range_contains():
    steps = SearchRange(low=96, high=224, step=32)
    assert [steps.contains(v) for v in (96, 128, 100, 224.0, True)] == [True, True, False, False, False]
    assert SearchRange(low=0.0, high=1).contains(0.5) and not SearchRange(low=0, high=1).contains(0.5)


@pytest.mark.parametrize(
    "values",
    [
        {"tune": {"space": {RATE: {"low": 0.1, "high": 0.2}}}},
        {"training": {"epochs": 3}},
        {"model": {"input_size": [64, 96]}},
    ],
)
def test_check_few_space_refuses_keys_without_meaning(values):
    with raises("bad-recipe.key-with-few"):
        check_few_space(Recipe.of(values))
    check_few_space(Recipe.of({"model": {"name": "efficientnet-lite0", "input_size": 64}}))
