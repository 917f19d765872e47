"""The half that looks at images works where torch, OpenCV and every extra are missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

# What the base install does not bring.
MISSING = (
    "torch", "torchvision", "lightning", "timm", "onnx", "onnxscript", "safetensors", "tensorboard",
    "matplotlib", "sklearn", "scipy", "jinja2", "hotcoco", "faster_coco_eval", "pycocotools",
    "cv2", "fastapi", "uvicorn", "openvino",
    "huggingface_hub", "av", "ultralytics", "rfdetr",
    "segmentation_models_pytorch", "elpv_dataset",
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
    "verb",
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
        ["--help"],
    ],
    ids=lambda verb: " ".join(verb[:2]),
)
def test_verbs_of_the_base_install(verb, folder):
    done = run("from blemish.cli import main; main()", folder, *verb)
    assert done.returncode in (0, 1 if verb[:2] == ["data", "check"] else 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["train", "models"])
def test_what_needs_an_extra_says_which(verb, folder):
    arguments = ["--data", "photos"] if verb == "train" else []
    done = run("from blemish.cli import main; main()", folder, verb, *arguments)
    assert done.returncode == 2
    assert "[train]" in done.stderr and "Traceback" not in done.stderr


def test_importing_blemish_loads_neither_torch_nor_numpy(tmp_path):
    heavy = "('torch', 'numpy', 'PIL', 'typer')"
    script = f"import blemish, sys; sys.exit(sum(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_no_room_of_the_torch_free_half_can_reach_torch():
    """The contract itself: a file that imports torch in the wrong room is found."""
    import tomllib

    rules = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(c for c in rules["tool"]["importlinter"]["contracts"] if c["id"] == "torch-free")
    rooms = {p.stem for p in (Path(__file__).parents[1] / "src" / "blemish").iterdir()}
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
        "__pycache__",
    }
    named = {module.removeprefix("blemish.") for module in contract["source_modules"]}
    assert rooms - torch_half - outside == named
