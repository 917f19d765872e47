"""Trainings beside each other, from their folders and from MLflow."""

import json
import math
import shutil

import pytest
from typer.testing import CliRunner

from blemish import cli
from blemish.config.recipe import read_recipe
from blemish.evaluation.run_comparison import compare_runs
from blemish.testing import raises

ROWS = ((1, 0.7, 0.8, 0.5), (2, 0.5, 0.6, 0.9), (3, 0.3, 0.9, 0.7))  # epoch, train_loss, val_loss, macro_f1


@pytest.fixture
def write_run(tmp_path):
    def write(name, rows=ROWS, **settings):
        folder = tmp_path / name
        folder.mkdir()
        overrides = {"name": name, "task": "classification", "data.path": "photos", **settings}
        (folder / "recipe.yaml").write_text(read_recipe(overrides=overrides).to_yaml())
        lines = ["epoch,train_loss,val_loss,macro_f1", *(",".join(map(str, row)) for row in rows)]
        (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
        return folder

    return write


def test_compare_runs_at_their_best_epochs_with_the_settings_that_differ(write_run):
    first = write_run("a")
    second = write_run("b", ((1, 0.9, 0.4, 0.95),), **{"training.optimizer.learning_rate": 0.1})
    comparison = compare_runs([first, second])
    assert [(run.name, run.epoch) for run in comparison.runs] == [("a", 2), ("b", 1)]
    assert comparison.runs[0].metrics == {"train_loss": 0.5, "val_loss": 0.6, "macro_f1": 0.9}
    assert comparison.differences == {"training.optimizer.learning_rate": ("0.001", "0.1")}
    assert (comparison.best("macro_f1"), comparison.best("val_loss")) == (0.95, 0.4)
    rows = dict(comparison.to_rows())
    assert rows["Macro F1"] == ("0.900", "0.950 *")


def test_compare_runs_with_undefined_metrics(write_run):
    nan = write_run("a", ((1, 0.7, 0.8, "nan"), (2, 0.7, 0.8, "")))
    (run,) = compare_runs([nan]).runs
    assert run.epoch == 2 and math.isnan(run.metrics["macro_f1"])
    assert compare_runs([nan]).to_dict()["runs"][0]["metrics"]["macro_f1"] is None


def test_compare_runs_reads_the_model_file_of_a_run(tiny, write_run):
    folder = write_run("a")
    tiny.write_scores_model(folder / "model.onnx")
    (run,) = compare_runs([folder]).runs
    assert run.epoch is None  # what the model file states


def test_compare_runs_refuses_what_is_not_a_run(tmp_path):
    with raises("bad-input.not-a-run", tmp_path):
        compare_runs([tmp_path])
    with raises("bad-input.not-a-run", "--data"):
        compare_runs([tmp_path / "model.onnx"])
    with raises("bad-input.no-model"):
        compare_runs([])


@pytest.mark.filterwarnings("ignore")  # MLflow's own calls of SQLAlchemy
@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ((), "bad-input.not-a-run"),
        (((1, 0.7, "low", 0.5),), "bad-input.metrics-table"),
        (((1, 0.7, 0.8, 0.5, 0.1),), "bad-input.metrics-table"),
        ((("", 0.7, 0.8, 0.5),), "bad-input.metrics-table"),
    ],
)
def test_compare_runs_refuses_damaged_tables_of_epochs(write_run, rows, code):
    with raises(code, "metrics.csv"):
        compare_runs([write_run("a", rows)])


def test_compare_runs_of_mlflow_with_folders(empty_mlflow_store, write_run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    shutil.copyfile(empty_mlflow_store, tmp_path / "mlflow.db")
    address = f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    client = mlflow.MlflowClient(address)
    run_id = client.create_run(client.create_experiment("x"), run_name="logged").info.run_id
    for epoch, train_loss, val_loss, macro_f1 in ROWS:
        for name, value in (("train_loss", train_loss), ("val_loss", val_loss), ("macro_f1", macro_f1)):
            client.log_metric(run_id, name, value, step=epoch)
    client.log_metric(run_id, "best_epoch", 2, step=3)
    client.log_metric(run_id, "best_macro_f1", 0.9, step=3)
    folder = write_run("a")
    from blemish.hub.settings import flatten

    recipe = read_recipe(overrides={"task": "classification", "data.path": "photos", "training.epochs": 7})
    for key, value in flatten(recipe.model_dump(mode="json", exclude={"tune"})):
        client.log_param(run_id, key, value)
    comparison = compare_runs([folder, f"runs:/{run_id}"])
    assert comparison.runs[0].metrics == comparison.runs[1].metrics
    assert [run.epoch for run in comparison.runs] == [2, 2]
    assert comparison.differences == {"training.epochs": ("30", "7")}
    with raises("bad-input.mlflow-missing", "runs:/0"):
        compare_runs(["runs:/0"])


def test_compare_command_of_runs(write_run, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(cli.build_app(["compare"]), ["compare", *map(str, arguments)])

    folders = [write_run("a"), write_run("b", **{"training.seed": 4})]
    printed = run(*folders)
    assert printed.exit_code == 0 and "training.seed" in printed.output
    content = json.loads(run(*folders, "--json").output)
    assert content["differences"] == {"training.seed": ["0", "4"]}
    refused = run(*folders, "--output", tmp_path / "out")
    assert refused.exception.code == "bad-input.option-without-data"
