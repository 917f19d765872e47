"""`blemish models`: architectures of the registry, and those that a task trains without PyTorch."""

import json
import sys

import pytest
from typer.testing import CliRunner

from blemish import cli
from blemish.task import Task


def invoke(*arguments):
    return CliRunner().invoke(cli.build_app(arguments), arguments)


def test_models_lists_torch_free_architectures():
    listed = json.loads(invoke("models", "--json").stdout)["architectures"]
    by_name = {row["name"]: row for row in listed}
    for name in Task.ANOMALY.fields.torch_free_architectures:
        assert by_name[name]["tasks"] == ["anomaly"]
    assert "resnet18" in by_name


@pytest.mark.parametrize("name", Task.ANOMALY.fields.torch_free_architectures)
def test_models_describes_torch_free_architecture_without_torch(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    text = invoke("models", name).stdout
    assert name in text and "224 x 224" in text
    result = invoke("models", name, "--layers")
    assert getattr(result.exception, "code", "") == "bad-input.no-layers"


def test_train_model_name_chooses_the_task(tmp_path):
    result = invoke("train", "--model", "gaussian", "--data", str(tmp_path))
    assert getattr(result.exception, "code", "") == "bad-dataset.empty-folder"
    result = invoke("train", "--model", "gaussian", "--epochs", "3", "--data", str(tmp_path))
    assert getattr(result.exception, "code", "") == "bad-input.option-with-task"
