"""Ultralytics without downloads, messages, and the loggers of other packages that happen to be installed."""

from __future__ import annotations

import os
from pathlib import Path

LOGGERS = ("clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")


def import_quietly(folder: Path) -> type:
    """Import Ultralytics and return its class `YOLO`.

    Args:
        folder: for its settings, so that those of the user stay as they are.
    """
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    from ultralytics import YOLO, settings

    settings.update({"sync": False, **{name: False for name in LOGGERS if name in settings}})
    model: type = YOLO
    return model
