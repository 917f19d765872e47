"""`blemish train --few`."""

import json
import subprocess
import sys

import pytest

from blemish.data.synthetic import write_panels
from blemish.structures import Task


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.setenv("BLEMISH_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        command = [sys.executable, "-m", "blemish", "train", "--few", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    return run


def test_train_few_command(call, tmp_path, small_state):
    torch = pytest.importorskip("torch")
    weights = tmp_path / "small.pth"
    tensors = {k: torch.from_numpy(v) for k, v in small_state.items()}
    torch.save(tensors, weights, _use_new_zipfile_serialization=False)
    data = tmp_path / "data"
    write_panels(data, 30, 0, layout="csv", task=Task.CLASSIFICATION, size_hw=(64, 64))
    arguments = (
        "--data",
        data,
        "--weights",
        weights,
        "--input-size",
        64,
        "--output",
        tmp_path / "run",
        "--json",
    )
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["task"] == "classification" and sum(result["images"].values()) == 30
    assert "macro_f1" in result["metrics"]
    assert (tmp_path / "run" / "model.onnx").is_file()


@pytest.mark.parametrize(
    "arguments, code",
    [
        (("--data", "x", "--epochs", "3"), "bad-input.option-with-few"),
        (("--data", "x", "--model", "resnet18"), "bad-input.model-with-few"),
        (("--data", "x", "--weights", "none"), "bad-input.option-with-few"),
        (("--data", "x", "--lr", "0"), "bad-input.option-with-few"),
        (("--data", "x", "--device", "cuda"), "bad-input.option-with-few"),
        ((), "bad-input.no-data"),
    ],
)
def test_train_few_command_refuses_options_without_meaning(call, arguments, code):
    done = call(*arguments, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == code
