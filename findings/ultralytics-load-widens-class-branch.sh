#!/usr/bin/env bash
# Ultralytics' DetectionModel.load, which every fine-tuning calls, replaces the class branch of the head by one as wide as
# that of the source model. The width follows from the number of classes otherwise, so a YOLO11n for 3 classes has two
# shapes: 64 channels when it is built from yolo11n.yaml with nc=3, and 80 after it was fine-tuned from COCO weights. The
# state dict of a fine-tuned model does not load into a model that is built from its own yaml and number of classes.
# Prints versions, both shapes and the error; exits with 1 when the behavior changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ultralytics==8.4.190 torch==2.15.0
YOLO_OFFLINE=true YOLO_CONFIG_DIR="$folder" "$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import ultralytics
from ultralytics.nn.tasks import DetectionModel

print("ultralytics", ultralytics.__version__, "torch", torch.__version__)
built = DetectionModel("yolo11n.yaml", nc=3, verbose=False)
tuned = DetectionModel("yolo11n.yaml", nc=3, verbose=False)
tuned.load(DetectionModel("yolo11n.yaml", nc=80, verbose=False), verbose=False)
shapes = [tuple(model.state_dict()["model.23.cv3.0.2.weight"].shape) for model in (built, tuned)]
print("last layer of the class branch, built for 3 classes:", shapes[0])
print("the same after loading a model for 80 classes:      ", shapes[1])
rebuilt = DetectionModel(dict(tuned.yaml), nc=3, verbose=False)
try:
    rebuilt.load_state_dict(tuned.state_dict())
    loads = True
except RuntimeError as error:
    loads = False
    print("a model built from the fine-tuned model's own yaml refuses its state dict:", str(error).splitlines()[1].strip())
if shapes != [(3, 64, 1, 1), (3, 80, 1, 1)] or loads:
    print("the behavior has changed")
    sys.exit(1)
PYTHON
