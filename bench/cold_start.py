"""Compare `blemish predict` on one image with scripts that import torch and do the same, per process.

    python bench/cold_start.py [--runs 7]

The network is a ResNet-18 at 224 px with random weights, as a model file and as a state dict of torchvision.
The scripts are typical: import torch and torchvision (and lightning), open, resize, normalize, run, softmax,
print. Everything is cached and compiled to bytecode; runs are interleaved, and the median counts. The targets
are at most .25 of the time of the plain script and .15 of the one with lightning.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
TARGETS = {"torch + torchvision": 0.25, "torch + torchvision + lightning": 0.15}

SETUP = """
import io, sys
from pathlib import Path
import numpy as np, torch, torchvision
from PIL import Image
from blemish.model_file import Contract, DecoderSpec, InputSpec, LabelSpec, OutputSpec, write_model_file
from blemish.structures import Task

folder = Path(sys.argv[1])
torch.manual_seed(0)
network = torchvision.models.resnet18(num_classes=6).eval()
torch.save(network.state_dict(), folder / "weights.pt")
buffer = io.BytesIO()
torch.onnx.export(network, (torch.zeros(2, 3, 224, 224),), buffer, input_names=["image"], dynamo=False,
                  output_names=["logits"], dynamic_axes={"image": {0: "b"}, "logits": {0: "b"}})
contract = Contract(
    architecture="resnet18", task=Task.CLASSIFICATION,
    labels=tuple(LabelSpec(name=f"label{i}", display_name=f"Label {i}") for i in range(6)),
    inputs=(InputSpec(size_hw=(224, 224)),),
    outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
    decoder=DecoderSpec(name="scores"))
write_model_file(folder / "model.onnx", buffer.getvalue(), contract)
pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
Image.fromarray(pixels).save(folder / "photo.jpg")
"""

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
print(f"{photo}: Label {best} {scores[best]:.1%}")
"""


def main() -> int:
    """Print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7, help="runs of each process")
    runs = parser.parse_args().runs
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        python = [sys.executable, "-W", "ignore"]
        subprocess.run([*python, "-c", SETUP, name], env=environment, check=True, stdout=subprocess.DEVNULL)
        photo, weights, model = (str(folder / n) for n in ("photo.jpg", "weights.pt", "model.onnx"))
        commands = {
            "blemish predict": [*python, "-m", "blemish", "predict", photo, "--model", model],
            "torch + torchvision": [*python, "-c", SCRIPT, weights, photo],
            "torch + torchvision + lightning": [*python, "-c", "import lightning\n" + SCRIPT, weights, photo],
        }
        seconds: dict[str, list[float]] = {label: [] for label in commands}
        outputs = {}
        for turn in range(runs + 1):
            for label, command in commands.items():
                start = time.perf_counter()
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                outputs[label] = done.stdout.strip()
                if turn:  # the first run compiles and fills caches
                    seconds[label].append(time.perf_counter() - start)
    medians = {label: statistics.median(times) for label, times in seconds.items()}
    ours = medians["blemish predict"]
    print(f"{'whole process, one image':34}{'median s':>10}{'min s':>10}{'blemish /':>11}{'target':>9}")
    for label, median in medians.items():
        target = f"{TARGETS[label]:.2f}" if label in TARGETS else ""
        print(f"{label:34}{median:10.2f}{min(seconds[label]):10.2f}{ours / median:11.3f}{target:>9}")
    print("outputs:", {label: text.rpartition(": ")[2] for label, text in outputs.items()})
    return int(any(ours > target * medians[label] for label, target in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
