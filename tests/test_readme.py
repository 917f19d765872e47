"""The README's commands and its Python run as printed, on drawn data, with training cut short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.data.synthetic import write_vehicles

README = Path(__file__).parents[1] / "README.md"
# No network here, and no hour to spare: random weights, one epoch, a small input.
CUT_SHORT = ["--weights", "none", "--epochs", "1", "--set", "model.input_size=32"]
# A network that has learned nothing cannot keep its verdicts in half precision.
EXTRA = {"train": CUT_SHORT, "export": ["--force"], "explain": ["--method", "grad-cam"]}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("readme")
    write_vehicles(root / "photos", 36, size_hw=(48, 48), splits={"train": 0.5, "val": 0.25, "test": 0.25})
    written = write_vehicles(root / "new", 2, seed=7, size_hw=(48, 48))
    (root / "claims").mkdir()
    for sample, name in zip(written, ("claim.png", "another.png"), strict=True):
        sample.path.rename(root / "claims" / name)
    return root


def test_every_printed_command_and_the_python_run(project):
    commands = [line.split() for block in blocks("sh") for line in block.strip().splitlines()]
    assert len(commands) >= 10
    for command in commands:
        assert command[0] == "blemish"
        line = [sys.executable, "-m", *command, *EXTRA.get(command[1], [])]
        done = subprocess.run(line, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    for block in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (project / "report" / "report.html").is_file()
    assert (project / "drawn.png").is_file()


def test_every_link_of_the_readme_leads_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (README.parent / target).exists(), target
