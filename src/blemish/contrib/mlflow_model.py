"""Registered models in MLflow: `mlflow.pyfunc.load_model` imports this module, which needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from blemish.errors import BadInput
from blemish.hub.mlflow_registry import find_model
from blemish.inference import load

IMAGE = "image"  # the column of the signature


class RegisteredModel:
    """A model file with the interface of MLflow's `pyfunc` models.

    Attributes:
        predictor: of the model file.
    """

    def __init__(self, file: Path) -> None:
        self.predictor = load(file)

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Return one row per image: `labels`, `label_scores`, `detections` (with boxes) and `json`.

        Args:
            model_input: a data frame with the column `image`: the bytes of image files.
            params: none.

        Returns:
            A data frame. `labels` are the positive ones; `json` is the whole prediction.

        Raises:
            BadImage: an image cannot be used.
            BadInput: an image is not bytes ("bad-input.not-an-image").
        """
        pandas: Any = import_module("pandas")
        return pandas.DataFrame([self._row(image) for image in _as_bytes(model_input[IMAGE])])

    def _row(self, image: bytes) -> dict[str, Any]:
        prediction = self.predictor.predict(image)
        content = prediction.to_dict()
        row: dict[str, Any] = {"labels": [x["label"] for x in content["labels"] if x["positive"]]}
        if content["labels"]:
            row["label_scores"] = {x["label"]: x["score"] for x in content["labels"]}
        if prediction.task.has_boxes:
            keys = ("label", "score", "box_xyxy")
            row["detections"] = [{key: found[key] for key in keys} for found in content["detections"]]
        return {**row, "json": json.dumps(content, ensure_ascii=False)}


def _as_bytes(images: Iterable[Any]) -> Iterable[bytes]:
    for image in images:
        if not isinstance(image, bytes | bytearray):
            raise BadInput(
                f"{IMAGE}: expected the bytes of an image file, got {type(image).__name__}",
                reason="not-an-image",
            )
        yield bytes(image)


def _load_pyfunc(path: str) -> RegisteredModel:
    """Return the model in the folder that MLflow gives."""
    return RegisteredModel(find_model(Path(path)))
