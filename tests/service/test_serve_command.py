"""`blemish serve` as it is typed."""

import re
import signal
import subprocess
import sys

import httpx
import pytest
import typer
from typer.testing import CliRunner

from blemish.commands import serve_command as command
from blemish.errors import BadInput

RUNNER = CliRunner()


def app():
    made = typer.Typer()
    made.command()(command.serve)
    return made


def test_without_a_model_it_lists_the_runs_it_finds(tmp_path, monkeypatch, tools):
    monkeypatch.chdir(tmp_path)
    nothing = RUNNER.invoke(app(), [])
    assert nothing.exit_code == 2
    assert "blemish demo" in nothing.output
    (tmp_path / "runs" / "cars").mkdir(parents=True)
    tools.write_classifier(tmp_path / "runs" / "cars" / "model.onnx")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "model.onnx").write_bytes(b"x")
    some = RUNNER.invoke(app(), [])
    assert some.exit_code == 2
    assert "blemish serve --model runs/cars/model.onnx" in some.output
    assert "broken" not in some.output
    assert "blemish demo" in some.output


def test_a_new_key_and_its_line():
    done = RUNNER.invoke(app(), ["--new-api-key", "claims"])
    assert done.exit_code == 0
    key = re.search(r"(blemish_[\w-]{43})", done.output)[1]
    name, digest = re.search(r"(claims) ([0-9a-f]{64})", done.output).groups()
    from blemish.service.api_keys import ApiKeys

    assert ApiKeys({name: digest}).owner(key) == "claims"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nowhere.onnx"], "nowhere.onnx: no such file"),
        (["--model", "a=x.onnx", "--model", "a=y.onnx"], "two models are called 'a'"),
        (["--model", "a=m.onnx", "--keep", "kept"], "--keep-hours"),
        (["--model", "a=m.onnx", "--api-keys", "nothing"], "cannot be read"),
        (["--model", "a b=m.onnx"], "no name for a model"),
    ],
)
def test_mistakes_are_told_in_a_sentence(tmp_path, monkeypatch, tools, arguments, said):
    monkeypatch.chdir(tmp_path)
    tools.write_classifier(tmp_path / "m.onnx")
    done = RUNNER.invoke(app(), [*arguments, "--port", "0"])
    assert isinstance(done.exception, BadInput)
    assert said in str(done.exception)


def test_names_of_models():
    named = command._named(["runs/cars/model.onnx", "x=y.onnx", "some/dents.onnx"])
    assert [name for name, _ in named] == ["cars", "x", "dents"]


def test_containers_set_options_in_the_environment(tmp_path, monkeypatch, tools):
    tools.write_classifier(tmp_path / "a.onnx")
    tools.write_classifier(tmp_path / "b.onnx")
    served = {}

    def run(made, listener):
        listener.close()
        served["models"] = list(made.state.desk.models)
        served["frames"] = made.state.desk.settings.frame_ancestors

    import blemish.service.server

    monkeypatch.setattr(blemish.service.server, "run", run)
    monkeypatch.setenv("BLEMISH_MODEL", f"one={tmp_path / 'a.onnx'} two={tmp_path / 'b.onnx'}")
    monkeypatch.setenv("BLEMISH_PORT", "0")
    monkeypatch.setenv("BLEMISH_FRAME_ANCESTOR", "https://huggingface.co")
    done = RUNNER.invoke(app(), [])
    assert done.exit_code == 0, done.output
    assert served == {"models": ["one", "two"], "frames": ("https://huggingface.co",)}


def test_models_of_the_hub_are_called_after_their_repository(tmp_path, monkeypatch):
    import blemish.hub

    monkeypatch.setattr(
        blemish.hub, "local_file", lambda path, explanation: tmp_path / "fetched" / "model.onnx"
    )
    named = command._named(["hf://somebody/dents@v2", "car=hf://somebody/cars"])
    assert [name for name, _ in named] == ["dents", "car"]
    assert named[0][1] == tmp_path / "fetched" / "model.onnx"


def test_it_serves_and_stops(tmp_path, tools):
    tools.write_classifier(tmp_path / "model.onnx")
    code = "import typer; from blemish.commands.serve_command import serve; typer.run(serve)"
    arguments = ["--model", f"car={tmp_path / 'model.onnx'}", "--port", "0", "--threads", "1"]
    running = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = re.search(r"http://[\d.]+:\d+", running.stdout.readline())[0]
        answer = httpx.get(f"{address}/api/v1/models", timeout=30).json()
        assert answer["default"] == "car"
        running.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
        running.wait(30)
    finally:
        if running.poll() is None:
            running.kill()
        running.communicate(timeout=10)
    if sys.platform != "win32":
        assert running.returncode == 0
