"""`blemish tune` with trainings of a tiny network, in this process."""

import json

import pytest
import typer
from typer.testing import CliRunner

from blemish.config.recipe import read_recipe
from blemish.tuning.objectives import training_objective
from blemish.tuning.study import Pruned, Study, TrialResult

pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # of optuna's experimental classes

RATE = "training.optimizer.learning_rate"


def test_tune_trains_and_writes_the_best_recipe(recipe, tmp_path):
    from blemish.commands.tune_command import tune

    chosen = recipe(
        training__epochs=2, tune__space={RATE: {"low": 1e-4, "high": 1e-1, "log": True}}, tune__trials=2
    )
    (tmp_path / "space.yaml").write_text(chosen.to_yaml())
    app = typer.Typer()
    app.command()(tune)
    arguments = [
        "--recipe",
        tmp_path / "space.yaml",
        "--output",
        tmp_path / "study",
        "--device",
        "cpu",
        "--json",
    ]
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["trials"] == {"complete": 2} and found["metric"] == "macro_f1"
    assert found["value"] >= found["base_value"]
    best = read_recipe(tmp_path / "study/best-recipe.yaml")
    assert best.training.optimizer.learning_rate == found["params"][RATE]
    assert len(list(tmp_path.glob("study/trials/*/weights.safetensors"))) == 1  # those of the best
    assert len(list(tmp_path.glob("study/trials/*/metrics.csv"))) == 2


def test_training_objective_stops_a_pruned_training(recipe, tmp_path):
    reported = []

    def report(epoch, value):
        reported.append((epoch, value))
        if epoch == 2:
            raise Pruned

    with pytest.raises(Pruned):
        training_objective("macro_f1", "max", device="cpu")(
            recipe(training__epochs=5), tmp_path / "run", report
        )
    assert [epoch for epoch, _ in reported] == [1, 2]
    assert not (tmp_path / "run/model.onnx").exists()


def test_a_study_with_the_metric_of_the_recipe(recipe, tmp_path):
    chosen = recipe(training__monitor="val_loss", tune__space={RATE: {"choices": [0.001, 0.1]}})
    values = iter([0.3, 0.2])
    study = Study(tmp_path, chosen.changed({"tune.trials": 2}), metric="val_loss", direction="min")
    study.run(lambda *_: TrialResult(next(values)))
    result = study.finish()
    assert (result.value, result.base_value) == (0.2, 0.3)
