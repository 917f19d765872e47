"""What commands cost before they work: `info`, a refused training, the start of a training, `predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from bench import profiles
from bench.peers.servers import make_model
from bench.pictures import photo, save_jpeg
from bench.row import Call, Contest, Hotspot, Row, Setting, run_quietly

SCRIPT = """
import sys
import torch
import torchvision
from PIL import Image
from torchvision import transforms

weights, photo = sys.argv[1:3]
network = torchvision.models.resnet18(num_classes=6)
network.load_state_dict(torch.load(weights, weights_only=True))
network.eval()
prepare = transforms.Compose([
    transforms.Resize((224, 224)), transforms.ToTensor(),
    transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
with torch.inference_mode():
    scores = network(prepare(Image.open(photo).convert("RGB"))[None]).softmax(1)[0]
best = int(scores.argmax())
print(f"{photo}: label{best} {scores[best]:.1%}")
"""
# Ends the process when the optimizer's first step begins, before its forward pass.
FIRST_STEP = """
import importlib.abc, importlib.util, os, sys

class StopAtFirstStep(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torch.optim":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            module.AdamW.step = lambda *_, **__: os._exit(0)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, StopAtFirstStep())
from blemish.cli import main
main()
"""


def command(setting: Setting, *words: str, source: Path | None = None, expect: int = 0) -> Call:
    """Return a function that runs a `blemish` command to its end."""
    environment = setting.environment() if source is None else setting.environment(source)
    line = [sys.executable, "-m", "blemish", *words]
    return lambda: _none(run_quietly(line, environment, expect=expect))


def imports(setting: Setting, *words: str) -> Callable[[], list[Hotspot]]:
    """Return the profile of a command: what it imports."""
    return lambda: profiles.of_imports(["-m", "blemish", *words], setting.environment())


def _none(_: object) -> None:
    """Drop a result, so that the runner measures the call."""


def info(setting: Setting) -> Contest:
    file, _ = make_model("resnet18", setting.folder)
    sides = {
        "blemish info": command(setting, "info", str(file)),
        "blemish --help": command(setting, "--help"),
    }
    return Contest("blemish info", sides, profile=imports(setting, "info", str(file)))


def export_refusal(setting: Setting) -> Contest:
    words = ["export", str(setting.folder / "none.onnx")]
    sides = {
        "blemish export": command(setting, *words, expect=2),
        f"commit {setting.before}": command(setting, *words, source=setting.source_before(), expect=2),
    }
    accuracy = "a file that does not exist, refused by both"
    return Contest("blemish export", sides, accuracy=accuracy, profile=imports(setting, *words))


def data_set(folder: Path) -> Path:
    """Write 16 images of two labels and return their folder."""
    data = folder / "data"
    for number in range(16):
        place = data / ("clean" if number % 2 else "damaged")
        place.mkdir(parents=True, exist_ok=True)
        save_jpeg(photo(number, (120, 160)), place / f"{number}.jpg")
    return data


def refusal(setting: Setting) -> Contest:
    words = ["train", "--data", str(data_set(setting.folder)), "--output", str(setting.folder / "run")]
    wrong = [
        ("--model", "resnet19"),
        ("--set", "training.optimizer.name=adamx"),
        ("--set", "model.weights=nowhere.pth"),
        ("--set", "training.loss.name=nothing"),
    ]
    ours = [command(setting, *words, *pair, expect=2) for pair in wrong]
    before = setting.source_before()
    theirs = [command(setting, *words, *pair, source=before, expect=2) for pair in wrong]
    sides = {
        "blemish train, a wrong name": lambda: _none([call() for call in ours]),
        f"commit {setting.before}": lambda: _none([call() for call in theirs]),
    }
    return Contest(
        "blemish train, a wrong name", sides, items=len(wrong), accuracy="exit code 2 on both sides"
    )


def first_step(setting: Setting) -> Contest:
    data = str(data_set(setting.folder))
    words = [
        "train",
        "--data",
        data,
        "--model",
        "resnet18",
        "--weights",
        "none",
        "--set",
        "model.input_size=64",
    ]
    script = setting.folder / "first_step.py"
    script.write_text(FIRST_STEP, encoding="utf-8")
    counter = iter(range(10**6))

    def run(source: Path | None) -> Call:
        environment = setting.environment() if source is None else setting.environment(source)

        def call() -> None:
            output = str(setting.folder / f"run{next(counter)}")
            run_quietly([sys.executable, str(script), *words, "--output", output], environment)

        return call

    sides = {"blemish train": run(None), f"commit {setting.before}": run(setting.source_before())}

    def profile() -> list[Hotspot]:
        output = str(setting.folder / f"run{next(counter)}")
        return profiles.of_imports([str(script), *words, "--output", output], setting.environment())

    return Contest("blemish train", sides, profile=profile)


def predict(setting: Setting) -> Contest:
    file, state = make_model("resnet18", setting.folder)
    image = setting.folder / "photo.jpg"
    save_jpeg(photo(0, (480, 640)), image)
    environment = setting.environment()
    plain = [sys.executable, "-c", SCRIPT, str(state), str(image)]
    heavy = [sys.executable, "-c", "import lightning\n" + SCRIPT, str(state), str(image)]
    sides = {
        "blemish predict": command(setting, "predict", str(image), "--model", str(file)),
        "script with torch and torchvision": lambda: _none(run_quietly(plain, environment)),
        "the script with lightning": lambda: _none(run_quietly(heavy, environment)),
    }
    return Contest("blemish predict", sides)


ROWS = (
    Row(
        "info", "`blemish info`, whole process", "`blemish --help`", 1.3, info, lower=True,
        explanation="The profile is of the imports. Beyond --help, info imports pydantic, which reads the "
        "contract, builds the 15 classes of the contract, and computes the SHA-256 of 45 MB: 22 ms of CPU "
        "whether the file is mapped or read in blocks (by hand). Building the classes when they are used "
        "instead saves 2 %, and Pydantic's search for plug-ins takes 4 %; neither reaches the goal.",
    ),
    Row(
        "export-refusal", "`blemish export` refusing a missing file", "itself at an earlier commit", 1,
        export_refusal, lower=True, max_cpu_seconds=1,
    ),
    Row(
        "refusal", "`blemish train` refusing a wrong name or file", "itself at an earlier commit", 1, refusal,
        needs=("torch",), lower=True, max_cpu_seconds=1,
    ),
    Row(
        "first-step", "`blemish train` from its start to its first step", "itself at an earlier commit", 0.6,
        first_step, needs=("torch",), lower=True,
        explanation="Nearly all of it is imports, of the same packages on both sides. `import lightning` "
        "takes three quarters: PyTorch itself 27 %, and through torchmetrics, which Lightning imports, "
        "torchvision with torch._dynamo 26 % (timm needs them too), SciPy 12 % and matplotlib 6 % if "
        "installed; no switch prevents it. timm takes 6 %, Blemish's modules less than 10 %. With "
        "SciPy and the other extras' packages hidden: 3.24 s against 4.32 s (medians of four, by hand). The "
        "goal needs a training loop without Lightning (decision 0021).",
    ),
    Row(
        "predict-process", "`blemish predict` on one image, whole process",
        "a script that imports torch and torchvision", 0.25, predict, needs=("torch",), lower=True,
    ),
)  # fmt: skip
