"""Every command of every tutorial runs as printed, with less data and one epoch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "tutorials").glob("*.md"))
SHORTER = {
    "synthesize": ["--count", "24", "--size", "48"],
    "train": ["--weights", "none", "--epochs", "1", "--set", "training.batch_size=4"],
    "explain": ["--method", "occlusion", "--max-evals", "16"],
}


def commands(page):
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split() for block in blocks for line in block.strip().splitlines()]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorial_has_every_step(page):
    names = [command[2] if command[1] == "data" else command[1] for command in commands(page)]
    assert names[0] == "synthesize" and names[1] in ("check", "stats")
    assert {"train", "evaluate", "predict"} <= set(names)


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorial_runs(page, tmp_path):
    for command in commands(page):
        name = command[2] if command[1] == "data" else command[1]
        shorter = ["--count", "1", "--size", "700"] if "modules" in command else SHORTER.get(name, [])
        if page.stem == "anomaly":  # which trains no network, and needs all its good images
            shorter = []
        line = [sys.executable, "-m", *command, *shorter]
        if name == "train" and shorter and "ssd300" not in " ".join(command):
            line += ["--set", "model.input_size=64"]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        accepted = (0, 1) if name == "check" else (0,)
        assert done.returncode in accepted, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
