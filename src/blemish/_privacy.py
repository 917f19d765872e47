"""Switches off the telemetry of libraries, before any of them is imported.

ONNX Runtime's wheels since 1.29 write a device id and a queue of events below the home folder and look up the
address of a collector, unless `ORT_DISABLE_TELEMETRY` is set (microsoft/onnxruntime#27379). A value that the
user has set is kept.
"""

from __future__ import annotations

import os

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub
    "YOLO_OFFLINE": "true",  # ultralytics: no version checks and no events
    "NO_ALBUMENTATIONS_UPDATE": "1",  # albumentations, which rfdetr's dependencies may bring
    "WANDB_ERROR_REPORTING": "false",  # wandb, if a user logs to it
    "MLFLOW_DISABLE_TELEMETRY": "true",  # mlflow since 3.2
}


def disable_telemetry() -> None:
    """Set every switch that the user has not set; subprocesses inherit them."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
