"""examples/plugin: built, installed into a fresh environment, and taken through every command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")
ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "examples" / "plugin"
RECIPE = """\
model:
  name: boards-net
  weights: none
  input_size: 32
  resize: letterbox
  options: {width: 4}
data:
  path: DATA
  normalization: imagenet
  white_level: 4095
training:
  epochs: 8
  batch_size: 8
  monitor: worst_recall
  workers: 0
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a new environment with the built plug-in, on top of this one."""
    folder = tmp_path_factory.mktemp("environment")
    copy = shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("*.egg-info", "build"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(folder), str(copy)],
        check=True,
    )
    (wheel,) = folder.glob("blemish_boards-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    windows = sys.platform == "win32"
    interpreter = folder / "venv" / ("Scripts/python.exe" if windows else "bin/python")
    ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = subprocess.run([interpreter, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    target = ["--no-deps", "--no-index", "--target", site, str(wheel)]
    subprocess.run([*pip, "install", *target], check=True)
    parents = {sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]}
    (Path(site) / "parent.pth").write_text("\n".join([str(ROOT / "src"), *sorted(parents)]) + "\n")
    return str(interpreter)


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """Sixty boards, one without a serial number: a copper square means a fault."""
    folder = tmp_path_factory.mktemp("boards")
    rng = np.random.default_rng(0)
    lines = []
    for number in range(60):
        pixels = rng.integers(20, 90, (40, 48, 3), np.uint8)
        if number % 2:
            pixels[10:30, 12:36] = (220, 140, 60)
        Image.fromarray(pixels).save(folder / f"b{number:02}.png")
        serial = "" if number == 7 else f"S{number:04}"
        lines.append(f"b{number:02}.png\t{'fault' if number % 2 else 'good'}\t{serial}\n")
    (folder / "boards.txt").write_text("".join(lines), "utf-8")
    return folder


def call(python, *arguments, code=0, **options):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BLEMISH_NO_PLUGINS")}
    done = subprocess.run(
        [python, "-m", "blemish", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        **options,
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def run(python, boards, tmp_path_factory):
    """A run that was killed in training and resumed."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("DATA", boards.as_posix()), "utf-8")
    output = folder / "run"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BLEMISH_NO_PLUGINS")}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "blemish", "train", "--recipe", recipe, "--output", output],
            stdout=log,
            stderr=log,
            env=environment,
        )
        deadline = time.monotonic() + 240
        while not list(output.glob("checkpoints/*")) and process.poll() is None:
            assert time.monotonic() < deadline, "no checkpoint was written"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.wait()
    assert not (output / "model.onnx").exists(), (folder / "log.txt").read_text()
    call(python, "train", "--resume", output)
    return output


def test_plugins_are_listed(python):
    rows = json.loads(call(python, "plugins", "--json"))["plugins"]
    ours = {row["kind"] for row in rows if "blemish-boards" in row["distribution"].replace("_", "-")}
    assert ours == {"architectures", "formats", "metrics", "explainers", "checks", "commands", "routes"}
    assert all(not row["error"] for row in rows)


def test_command_of_the_plugin_is_in_the_help_and_runs(python, boards):
    assert "Count the boards of a list." in call(python, "--help")
    assert call(python, "boards", boards).split() == ["fault:", "30", "good:", "30"]


def test_check_of_the_plugin_finds_the_missing_serial_number(python, boards):
    done = json.loads(call(python, "data", "check", boards, "--only", "boards.*", "--json"))
    (finding,) = done["findings"]
    assert finding["code"] == "missing-serial-number" and finding["origin"] == "boards.txt:8"


def test_recipe_options_reach_the_network_and_the_model_file(python, run):
    contract = json.loads(call(python, "info", run / "model.onnx", "--json"))["contract"]
    (spec,) = contract["inputs"]
    assert contract["architecture"] == "boards-net"
    assert spec["size_hw"] == [32, 32] and spec["resize"] == "letterbox" and spec["white_level"] == 4095
    assert spec["mean"] == pytest.approx([0.485, 0.456, 0.406])
    assert contract["certificate"]["passed"]
    import onnx

    shapes = [list(t.dims) for t in onnx.load(run / "model.onnx").graph.initializer]
    assert [4, 3, 3, 3] in shapes  # width 4, not the default of 8


def test_an_option_that_the_network_does_not_take_is_refused(python, boards, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    head = "  head: {dropout: 0.5}\n  options: {width: 4}"
    recipe.write_text(
        RECIPE.replace("DATA", boards.as_posix()).replace("  options: {width: 4}", head), "utf-8"
    )
    arguments = ("train", "--recipe", recipe, "--output", tmp_path / "run", "--json")
    error = json.loads(call(python, *arguments, code=2))["error"]
    assert error["code"] == "bad-recipe.unknown-option" and "head" in error["message"]


def test_metric_of_the_plugin_chose_the_epoch_and_is_in_the_report(python, run, boards):
    report = json.loads(
        call(python, "evaluate", "--model", run / "model.onnx", "--data", boards, "--split", "all", "--json")
    )
    assert 0.9 <= report["metrics"]["worst_recall"]["value"] <= 1
    assert "worst_recall" in (run / "metrics.csv").read_text("utf-8").splitlines()[0]


def test_explainer_of_the_plugin(python, run, boards, tmp_path):
    call(
        python,
        *("explain", boards / "b01.png", "--model", run / "model.onnx"),
        *("--method", "quadrants", "--output", tmp_path / "maps"),
    )
    assert list((tmp_path / "maps").rglob("*.png"))


def test_export_of_the_run(python, run, tmp_path):
    call(python, "export", run, "--precision", "fp32", "--output", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").stat().st_size > 0


def test_route_of_the_plugin_answers(python, run, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BLEMISH_NO_PLUGINS")}
    code = (
        "import json, blemish; from fastapi.testclient import TestClient\n"
        f"app = blemish.create_app({{'boards': {str(run / 'model.onnx')!r}}})\n"
        "with TestClient(app) as client: print(json.dumps(client.get('/boards').json()))\n"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"models": ["boards"]}


def test_public_suites_pass_on_the_plugin(python):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "BLEMISH_NO_PLUGINS")}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SOURCE / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=SOURCE, timeout=300)
    assert done.returncode == 0, done.stdout


def test_without_plugins_nothing_of_it_is_known(python):
    environment = {**os.environ, "BLEMISH_NO_PLUGINS": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, "-m", "blemish", "models", "--json"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0 and "boards-net" not in done.stdout
