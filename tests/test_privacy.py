"""Nothing is sent, and nothing is written outside outputs and the documented cache."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from blemish._privacy import SWITCHES

CACHE = ".cache/blemish/"


@pytest.fixture
def files(tiny, tmp_path):
    """A model file, a labeled folder and an empty home folder."""
    tiny.write_scores_model(tmp_path / "model.onnx")
    for label in ("fine", "dented"):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 255, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{label}{i}.png")
    (tmp_path / "home").mkdir()
    return tmp_path


def run(files, *arguments, trace=None):
    home = files / "home"
    unset = {*SWITCHES, "XDG_CACHE_HOME", "BLEMISH_CACHE"}
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    environment |= {"HOME": str(home), "USERPROFILE": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "blemish", *map(str, arguments)]
    if trace is not None:
        command = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(trace), *command]
    return subprocess.run(command, env=environment, cwd=files, capture_output=True, text=True, timeout=300)


COMMANDS = {
    "predict": ("predict", "data", "--model", "model.onnx", "--output", "drawn"),
    "evaluate": ("evaluate", "--model", "model.onnx", "--data", "data", "--output", "report"),
    "explain": (
        *("explain", "data/fine/fine0.png", "--model", "model.onnx"),
        *("--method", "occlusion", "--output", "maps"),
    ),
    "info": ("info", "model.onnx"),
    "check": ("data", "check", "data"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_leaves_no_file_in_the_home_folder(files, name):
    done = run(files, *COMMANDS[name])
    assert done.returncode in (0, 1), done.stderr  # 1: `data check` finds that the set is small
    home = files / "home"
    left = [p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()]
    assert [p for p in left if not p.startswith(CACHE)] == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_command_opens_no_connection(files, name):
    log = files / "trace.txt"
    done = run(files, *COMMANDS[name], trace=log)
    if "ptrace" in done.stderr.lower() and "not permitted" in done.stderr.lower():
        pytest.skip("tracing is not permitted here")
    assert done.returncode == 0, done.stderr
    calls = [
        line for line in log.read_text().splitlines() if re.search(r"\b(connect|sendto|sendmsg|bind)\(", line)
    ]
    foreign = [c for c in calls if "AF_INET" in c and not re.search(r"127\.0\.0\.1|::1", c)]
    assert foreign == []
    assert not [c for c in calls if "nscd" not in c and "AF_UNIX" in c and "resolve" in c]


def test_a_switch_of_the_user_is_kept():
    code = "import os, blemish; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['YOLO_OFFLINE'])"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0"}
    environment.pop("YOLO_OFFLINE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "true"]
