"""Inference, evaluation and data commands work without torch, OpenCV and every extra."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from blemish.model_file import ParityCertificate

# Packages that are not part of the base installation.
MISSING = (
    "torch", "torchvision", "lightning", "timm", "onnx", "onnxscript", "safetensors", "tensorboard",
    "matplotlib", "sklearn", "scipy", "jinja2", "hotcoco", "faster_coco_eval", "pycocotools",
    "cv2", "fastapi", "uvicorn", "openvino",
    "huggingface_hub", "av", "ultralytics", "rfdetr",
    "segmentation_models_pytorch", "elpv_dataset",
    "sqlalchemy", "alembic", "fpdf", "psycopg", "skimage",
)  # fmt: skip
WITHOUT = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def run(script, folder, *arguments):
    line = [sys.executable, "-c", WITHOUT + script, *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path, tiny):
    tiny.write_scores_model(tmp_path / "model.onnx")
    for label in ("fine", "dented"):
        for i in range(3):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (40 * i, 9, 9)).save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "photos", "--model", "model.onnx", "--output", "drawn"],
        ["evaluate", "--model", "model.onnx", "--data", "photos", "--json"],
        [
            "explain",
            "photos/fine/0.png",
            "--model",
            "model.onnx",
            "--output",
            "maps",
            "--method",
            "occlusion",
        ],
        ["info", "model.onnx"],
        ["data", "check", "photos"],
        ["data", "stats", "photos"],
        ["data", "preview", "photos", "--output", "grid.png"],
        ["models"],
        ["--help"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_commands_of_the_base_installation(command, folder):
    done = run("from blemish.cli import main; main()", folder, *command)
    assert done.returncode in (0, 1 if command[:2] == ["data", "check"] else 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "extra"), [("train --data photos", "train"), ("models resnet18 --layers", "train")]
)
def test_missing_extra_is_named(command, extra, folder):
    done = run("from blemish.cli import main; main()", folder, *command.split())
    assert done.returncode == 2
    assert f"[{extra}]" in done.stderr and "Traceback" not in done.stderr


def test_importing_blemish_loads_neither_torch_nor_numpy(tmp_path):
    heavy = "('torch', 'numpy', 'PIL', 'typer')"
    script = f"import blemish, sys; sys.exit(sum(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_info_loads_neither_numpy_nor_pillow_nor_rich(folder):
    script = """
import atexit, sys
heavy = ("numpy._core", "PIL.Image", "rich.table", "blemish.inference")
atexit.register(lambda: print([name for name in heavy if name in sys.modules]))
from blemish.cli import main
main()
"""
    done = run(script, folder, "info", "model.onnx")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_numpy_of_info_is_complete_when_it_is_used():
    script = """
from blemish.commands.info_command import _import_numpy_when_used
_import_numpy_when_used()
import sys, numpy, numpy as np
assert "numpy._core" not in sys.modules
assert np.zeros(2).sum() == 0 and np.linalg.norm([3, 4]) == 5 and numpy is np
_import_numpy_when_used()
assert sys.modules["numpy"] is np
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_info_of_a_file_certified_for_two_backends_loads_numpy_completely(tmp_path, tiny):
    certificates = [
        ParityCertificate(passed=True, images=2, decisions_changed=0, max_difference=0.0, backend=backend)
        for backend in ("onnxruntime 1", "openvino 1")
    ]
    fields = {"certificate": certificates[0], "other_certificates": tuple(certificates[1:])}
    tiny.write_scores_model(tmp_path / "model.onnx", **fields)
    command = [sys.executable, "-m", "blemish", "info", str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("INVALID") == 2  # the certificates are of another graph


def test_import_contract_covers_every_torch_free_package():
    """A new package below `blemish` must be added to the contract that forbids torch."""
    import tomllib

    rules = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(c for c in rules["tool"]["importlinter"]["contracts"] if c["id"] == "torch-free")
    packages = {p.stem for p in (Path(__file__).parents[1] / "src" / "blemish").iterdir()}
    torch_half = {"models", "training", "export"}
    outside = {
        "__init__",
        "__main__",
        "_version",
        "api",
        "cli",
        "commands",
        "contrib",
        "demo",
        "py",
        "testing",
        "tuning",
        "__pycache__",
    }
    named = {module.removeprefix("blemish.") for module in contract["source_modules"]}
    assert packages - torch_half - outside == named


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--data", "photos", "--model", "resnet19"], "unknown-name"),
        (["--data", "photos", "--weights", "nowhere.pth"], "bad-weights.missing-file"),
        (["--data", "photos", "--set", "training.loss.name=nothing"], "unknown-name"),
        (["--data", "photos", "--device", "gpu"], "unknown-name"),
        (["--data", "empty", "--weights", "none"], "bad-dataset.empty-folder"),
        (["--data", "text", "--weights", "none"], "bad-dataset"),
        (["--data", "photos", "--task", "detection", "--weights", "none"], "wrong-task"),
        (["--data", "photos", "--output", "run", "--weights", "none"], "bad-input.run-exists"),
    ],
)
def test_train_refuses_without_importing_torch(folder, options, code):
    for name in ("empty", "text", "run"):
        (folder / name).mkdir()
    (folder / "text" / "readme.txt").write_text("no images")
    (folder / "run" / "recipe.yaml").write_text("name: a")
    done = run("from blemish.cli import main\nmain()", folder, "train", "--json", *options)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["error"]["code"].startswith(code), done.stdout
