"""The commands and the Python code of the README run as printed, on synthetic data, with a short training."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.data.synthetic import write_vehicles

README = Path(__file__).parents[1] / "README.md"
# Random weights, because there is no network, and one epoch on a small input.
SHORT_TRAINING = [
    "--weights",
    "none",
    "--epochs",
    "1",
    "--set",
    "model.input_size=32",
    "--set",
    "training.tensorboard=false",
]
# A network that was hardly trained cannot keep its decisions in half precision.
# `benchmark` starts PyTorch four times: a slow test measures every backend.
EXTRA_OPTIONS = {
    "train": SHORT_TRAINING,
    "export": ["--force"],
    "explain": ["--method", "grad-cam"],
    "benchmark": ["--backend", "onnxruntime"],
}


def code_blocks(language):
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


# One process for all: each command by itself would import PyTorch again.
RUNNER = """
import json, sys
from blemish.cli import main
commands, blocks = json.load(sys.stdin)
for command in commands:
    print(" ".join(command), file=sys.stderr)
    sys.argv = command
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
for block in blocks:
    print(block, file=sys.stderr)
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
"""


def run_all(project, commands, blocks=()):
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([commands, blocks]),
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_commands_and_python_of_the_readme_run(project):
    commands = [line.split() for block in code_blocks("sh") for line in block.strip().splitlines()]
    assert len(commands) >= 10 and all(command[0] == "blemish" for command in commands)
    given = [[*command, *EXTRA_OPTIONS.get(command[1], [])] for command in commands]
    run_all(project, given, code_blocks("python"))
    assert (project / "report" / "report.html").is_file()
    assert (project / "drawn.png").is_file()


@pytest.mark.slow
def test_benchmark_of_a_run_measures_pytorch_where_asked(project):
    train = [
        "blemish",
        "train",
        "--data",
        "photos",
        "--model",
        "resnet18",
        "--output",
        "runs/slow",
        *SHORT_TRAINING,
    ]
    measure = ["blemish", "benchmark", "--model", "runs/slow", "--count", "5", "--json"]
    shown = run_all(project, [train, [*measure, "--backend", "onnxruntime", "--backend", "torch"]])
    names = [json.loads(line)["backend"] for line in shown.splitlines() if line.startswith("{")]
    assert names[0].startswith("onnxruntime") and names[-1].startswith("torch")


def test_links_of_the_readme_exist():
    for target in re.findall(r"\]\(([^)#]+)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (README.parent / target).exists(), target
