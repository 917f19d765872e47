"""Experiment trackers, with MLflow's own store and W&B's offline mode."""

import json
import shutil
from pathlib import Path

import pytest

from blemish.evaluation.run_comparison import compare_runs
from blemish.hub.mlflow_client import tracking_address
from blemish.testing import raises
from blemish.training.data_setup import hash_contents, prepare_data
from blemish.training.run import train


@pytest.fixture
def store(empty_mlflow_store, tmp_path, monkeypatch):
    """The address of an MLflow store that is a SQLite file."""
    shutil.copyfile(empty_mlflow_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)  # artifacts are written below it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def mlflow_runs(store):
    from mlflow import MlflowClient

    def search():
        client = MlflowClient(store)
        return client, client.search_runs([client.get_experiment_by_name("blemish").experiment_id])

    return search


MLFLOW = ({"name": "mlflow"},)


def history(client, run, name):
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def test_mlflow_gets_recipe_tags_and_the_metrics_of_each_epoch(recipe, mlflow_runs, tmp_path):
    chosen = recipe(training__loggers=MLFLOW, training__epochs=2, training__seed=3, name="cars")
    made = train(chosen, output=tmp_path / "run", device="cpu")
    client, (run,) = mlflow_runs()
    assert run.info.status == "FINISHED" and run.info.run_name == "cars"
    for name in ("train_loss", "val_loss", "macro_f1"):
        assert history(client, run, name) == [(i + 1, row[name]) for i, row in enumerate(made.history)]
    assert run.data.metrics["best_epoch"] == made.best_epoch
    assert run.data.metrics["best_macro_f1"] == made.history[made.best_epoch - 1]["macro_f1"]
    params, tags = run.data.params, run.data.tags
    assert (params["training.epochs"], params["training.optimizer.name"]) == ("2", "adamw")
    assert (params["training.optimizer.betas"], params["model.options"]) == ("[0.9, 0.999]", "{}")
    compared = compare_runs([made.path, f"runs:/{run.info.run_id}"])
    assert set(compared.differences) <= {"training.channels_last", "data.path"}
    assert params["model.name"] == tags["blemish.model"] == chosen.model.name
    assert (tags["blemish.seed"], tags["blemish.task"]) == ("3", "classification")
    assert tags["blemish.data_digest"] == hash_contents(prepare_data(chosen))
    saved = client.download_artifacts(run.info.run_id, "recipe.yaml")
    assert Path(saved).read_text() == (made.path / "recipe.yaml").read_text()


def test_a_resumed_run_continues_the_run_of_mlflow(recipe, mlflow_runs, tmp_path, stop_after):
    chosen = recipe(training__loggers=MLFLOW, training__epochs=3)
    with stop_after(2):  # the second epoch is saved, and was not sent
        train(chosen, output=tmp_path / "run", device="cpu")
    client, (run,) = mlflow_runs()
    assert [step for step, _ in history(client, run, "train_loss")] == [1]
    made = train(resume=tmp_path / "run", device="cpu")
    client, (same,) = mlflow_runs()
    assert same.info.run_id == run.info.run_id and same.info.status == "FINISHED"
    assert history(client, same, "val_loss") == [
        (i + 1, row["val_loss"]) for i, row in enumerate(made.history)
    ]


def test_epochs_that_a_server_missed_are_sent_with_the_next(recipe, mlflow_runs, tmp_path, monkeypatch):
    from lightning.pytorch.loggers import MLFlowLogger

    accepted, calls = MLFlowLogger.log_metrics, []

    def failing(self, metrics, step=None):
        calls.append(step)
        if len(calls) == 1:
            raise ConnectionError("no route to host")
        accepted(self, metrics, step)

    monkeypatch.setattr(MLFlowLogger, "log_metrics", failing)
    train(recipe(training__loggers=MLFLOW, training__epochs=2), output=tmp_path / "run", device="cpu")
    client, (run,) = mlflow_runs()
    assert [step for step, _ in history(client, run, "macro_f1")] == [1, 2]
    assert "no route to host" in (tmp_path / "run" / "train.log").read_text()


def test_an_mlflow_server_that_is_not_there_is_reported_before_the_first_epoch(
    recipe, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with raises("no-network.unreachable", "http://127.0.0.1:9"):
        train(recipe(training__loggers=MLFLOW), output=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_wandb_without_a_login_is_reported(recipe, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with raises("bad-recipe.logger", "wandb login"):
        train(recipe(training__loggers=[{"name": "wandb"}]), output=tmp_path / "run", device="cpu")


def test_a_missing_tracker_names_its_extra(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("blemish.training.experiment_logs.find_spec", lambda name: None)
    for name in ("mlflow", "wandb"):
        with raises("missing-extra", name):
            train(recipe(training__loggers=[{"name": name}]), output=tmp_path / "run", device="cpu")


def test_a_missing_tensorboard_is_reported_before_the_first_epoch(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("blemish.training.experiment_logs.find_spec", lambda name: None)
    with raises("missing-extra", "training.tensorboard", "train"):
        train(recipe(training__tensorboard=True), output=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_wandb_offline_continues_its_run(recipe, tmp_path, monkeypatch, stop_after):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    chosen = recipe(training__loggers=[{"name": "wandb"}], training__epochs=2)
    with stop_after(1):
        train(chosen, output=tmp_path / "run", device="cpu")
    first = json.loads((tmp_path / "run" / "loggers.json").read_text())
    train(resume=tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run" / "loggers.json").read_text()) == first
    offline = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert offline and all(path.name.endswith(first["0"]["id"]) for path in offline)


def test_hash_contents_depends_on_labels_and_not_on_paths(recipe, folders, tmp_path):
    before = hash_contents(prepare_data(recipe(folders)))
    shutil.copytree(folders, tmp_path / "moved")
    assert hash_contents(prepare_data(recipe(tmp_path / "moved"))) == before
    first = sorted((tmp_path / "moved" / "dark").iterdir())[0]
    first.rename(tmp_path / "moved" / "light" / f"x{first.name}")
    assert hash_contents(prepare_data(recipe(tmp_path / "moved"))) != before


def test_tracking_address_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_address() == f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    assert tracking_address("file:./runs") == f"file://{tmp_path.as_posix()}/runs"
    for address in ("sqlite:////data/a.db", "file:///data", "https://example.org", "databricks"):
        assert tracking_address(address) == address
