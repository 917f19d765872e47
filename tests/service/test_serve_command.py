"""`blemish serve` as users run it."""

import re
import signal
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from blemish.commands import serve_command as command
from blemish.errors import BlemishError

RUNNER = CliRunner()


def app():
    cli = typer.Typer()
    cli.command()(command.serve)
    return cli


def test_serve_without_a_model_lists_the_runs(tmp_path, monkeypatch, tools):
    monkeypatch.chdir(tmp_path)
    no_runs = RUNNER.invoke(app(), [])
    assert no_runs.exit_code == 2
    assert "blemish demo" in no_runs.output
    (tmp_path / "runs" / "cars").mkdir(parents=True)
    tools.write_classifier(tmp_path / "runs" / "cars" / "model.onnx")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "model.onnx").write_bytes(b"x")
    runs = RUNNER.invoke(app(), [])
    assert runs.exit_code == 2
    assert "blemish serve --model runs/cars/model.onnx" in runs.output
    assert "broken" not in runs.output
    assert "blemish demo" in runs.output


def test_serve_new_api_key():
    done = RUNNER.invoke(app(), ["--new-api-key", "claims"])
    assert done.exit_code == 0
    key = re.search(r"(blemish_[\w-]{43})", done.output)[1]
    name, digest = re.search(r"(claims) ([0-9a-f]{64})", done.output).groups()
    from blemish.service.api_keys import ApiKeys

    assert ApiKeys({name: digest}).owner(key) == "claims"


@pytest.mark.parametrize(
    ("arguments", "code", "facts"),
    [
        (["--model", "nowhere.onnx"], "bad-model-file", ["nowhere.onnx"]),
        (["--model", "a=m.onnx", "--model", "a=m.onnx"], "bad-input.duplicate-model-name", ["'a'"]),
        (["--model", "a=m.onnx", "--store-dir", "kept"], "bad-input.retention-hours", ["--retention-hours"]),
        (["--model", "a=m.onnx", "--api-keys", "nothing"], "bad-input.api-keys", ["nothing"]),
        (["--model", "a b=m.onnx"], "bad-input.model-name", ["'a b'"]),
    ],
)
def test_serve_refuses_wrong_options(tmp_path, monkeypatch, tools, arguments, code, facts):
    monkeypatch.chdir(tmp_path)
    tools.write_classifier(tmp_path / "m.onnx")
    done = RUNNER.invoke(app(), [*arguments, "--port", "0"])
    assert isinstance(done.exception, BlemishError) and done.exception.code.startswith(code)
    for fact in facts:
        assert fact in str(done.exception)


def test_named_files_default_names():
    named = command._named_files(["runs/cars/model.onnx", "x=y.onnx", "some/dents.onnx"])
    assert [name for name, _ in named] == ["cars", "x", "dents"]


def test_serve_options_from_the_environment(tmp_path, monkeypatch, tools):
    tools.write_classifier(tmp_path / "a.onnx")
    tools.write_classifier(tmp_path / "b.onnx")
    served = {}

    def run(application, listener):
        listener.close()
        served["models"] = list(application.state.service.models)
        served["frames"] = application.state.service.settings.frame_ancestors

    import blemish.service.server

    monkeypatch.setattr(blemish.service.server, "run", run)
    monkeypatch.setenv("BLEMISH_MODEL", f"one={tmp_path / 'a.onnx'} two={tmp_path / 'b.onnx'}")
    monkeypatch.setenv("BLEMISH_PORT", "0")
    monkeypatch.setenv("BLEMISH_FRAME_ANCESTOR", "https://huggingface.co")
    done = RUNNER.invoke(app(), [])
    assert done.exit_code == 0, done.output
    assert served == {"models": ["one", "two"], "frames": ("https://huggingface.co",)}


def test_named_files_of_the_hub_have_the_name_of_the_repository(tmp_path, monkeypatch):
    import blemish.hub

    monkeypatch.setattr(
        blemish.hub, "local_file", lambda path, explanation: tmp_path / "fetched" / "model.onnx"
    )
    named = command._named_files(["hf://user/dents@v2", "car=hf://user/cars"])
    assert [name for name, _ in named] == ["dents", "car"]
    assert named[0][1] == tmp_path / "fetched" / "model.onnx"


def test_serve_starts_and_stops(tmp_path, tools):
    tools.write_classifier(tmp_path / "model.onnx")
    code = "import typer; from blemish.commands.serve_command import serve; typer.run(serve)"
    arguments = ["--model", f"car={tmp_path / 'model.onnx'}", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = re.search(r"http://[\d.]+:\d+", process.stdout.readline())[0]
        answer = tools.get(f"{address}/api/v1/models").json()
        assert answer["default"] == "car"
        process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
        process.wait(tools.timeout_seconds)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=tools.timeout_seconds)
    if sys.platform != "win32":
        assert process.returncode == 0
