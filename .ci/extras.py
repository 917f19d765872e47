"""Check that every extra still imports after every other one was installed on top of it.

    python .ci/extras.py [--reverse] [EXTRA...]

OpenCV has two packages that write into one folder: Ultralytics requires one, grad-cam of the extra `dev` the
other. Both are pinned to one version; this script checks that this is sufficient, in either order.
Installs the extras one by one into one new environment, in the versions of requirements/detectors.txt, and
imports everything installed so far after each. Needs uv and the network.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTS = {
    "eval": ["jinja2"],
    "hub": ["huggingface_hub"],
    "serve": ["fastapi", "prometheus_client", "uvicorn", "blemish.service"],
    "video": ["av", "blemish.inference.video"],
    "openvino": ["openvino"],
    "train": ["torch", "torchvision", "lightning", "timm", "onnx", "onnxscript", "blemish.training"],
    "segment": ["segmentation_models_pytorch"],
    "yolo": ["ultralytics", "cv2"],
    "rfdetr": ["rfdetr", "cv2"],
    "demo": ["elpv_dataset"],
    "inspections": ["alembic", "fpdf", "sqlalchemy", "blemish.inspections.store"],
    "postgresql": ["psycopg"],
    "measure": ["skimage"],
    "parquet": ["pyarrow"],
    "remote": ["fsspec", "s3fs"],
    "dev": ["pytorch_grad_cam", "cv2"],
}
BASE = ["numpy", "PIL", "onnxruntime", "blemish"]
NETWORKS = {
    "segment": "create('hybrid', task='segmentation', label_count=1, detector='ssd300-resnet50')",
    "yolo": "create('yolo11n', task='detection', label_count=1)",
    "rfdetr": "create('rfdetr-nano', task='detection', label_count=1)",
}


def plain_pins(target):
    """The pins without hashes and addresses, for extras that are installed a few at a time."""
    text = (ROOT / "requirements" / "detectors.txt").read_text(encoding="utf-8")
    pins = [line.rstrip(" \\") for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    target.write_text("\n".join(pins) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("extras", nargs="*", default=list(IMPORTS))
    parser.add_argument("--reverse", action="store_true")
    given = parser.parse_args()
    order = list(reversed(given.extras)) if given.reverse else given.extras
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        plain_pins(home / "pins.txt")
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(home / "venv")], check=True)
        python = home / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        done = []
        for extra in order:
            install = ["uv", "pip", "install", "--quiet", "--python", str(python)]
            wanted = f"blemish[{','.join([*done, extra])}] @ {ROOT.as_uri()}"
            subprocess.run([*install, "-c", str(home / "pins.txt"), wanted], check=True)
            done.append(extra)
            names = [*BASE, *(name for one in done for name in IMPORTS[one])]
            code = [f"import {name}" for name in names]
            if "train" in done:
                code.append("from blemish.models import create")
                code += [NETWORKS[one] for one in done if one in NETWORKS]
            if {"yolo", "rfdetr"} & set(done):
                code.append("assert cv2.resize(numpy.zeros((4, 4, 3), 'uint8'), (2, 2)).shape == (2, 2, 3)")
            subprocess.run([str(python), "-W", "ignore", "-c", "\n".join(code)], check=True)
            print(f"after {extra}: {len(names)} packages import", flush=True)


if __name__ == "__main__":
    main()
