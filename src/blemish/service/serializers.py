"""A prediction as the service says it; the words are those of `Prediction.to_dict`."""

from __future__ import annotations

from typing import Any

import numpy as np

from blemish.geometry import mask_to_rings
from blemish.model_file import Contract, ModelFile
from blemish.structures import Prediction

_LINK = "/api/v1/artifacts/"


def version_of(model_file: ModelFile) -> str:
    """The run's name and the file's first 12 digits: `car-maskrcnn@3f2a9c01b7de`."""
    name = model_file.contract.name or model_file.contract.architecture
    return f"{name}@{model_file.digest[:12]}"


def say(prediction: Prediction, *, min_score: float) -> dict[str, Any]:
    """The part of an answer that speaks of the image alone.

    Args:
        prediction: of one image.
        min_score: objects below it are left out.
    """
    said = prediction.to_dict()
    objects = None if prediction.boxes_xyxy is None else _objects(prediction, min_score)
    return {
        "task": said["task"],
        "size_hw": said["size_hw"],
        "labels": said["labels"],
        "objects": objects,
        "verdict": {
            "labels": [row["label"] for row in said["labels"] if row["positive"]],
            "objects": [row["id"] for row in objects or () if row["positive"]],
        },
    }


def _objects(prediction: Prediction, min_score: float) -> list[dict[str, Any]]:
    height, width = prediction.size_hw or (0, 0)
    boxes = np.asarray(prediction.boxes_xyxy)
    labels = prediction.labels
    rows: list[dict[str, Any]] = []
    for row, (index, score) in enumerate(zip(prediction.label_index, prediction.scores, strict=True)):
        if score < min_score:
            continue
        x1, y1, x2, y2 = (float(v) for v in boxes[row])
        mask = None if prediction.masks is None else prediction.masks[row]
        area = (x2 - x1) * (y2 - y1) if mask is None else float(mask.area)
        rows.append(
            {
                "id": len(rows) + 1,
                "label": labels.names[index] if len(labels) else None,
                "title": labels.display_names[index] if len(labels) else None,
                "score": float(score),
                "positive": bool(score >= prediction.thresholds[index]) if len(labels) else True,
                "box_xyxy": [round(v, 2) for v in (x1, y1, x2, y2)],
                "polygons": None
                if mask is None
                else [np.round(ring, 1).tolist() for ring in mask_to_rings(mask)],
                "area": round(area, 2),
                "area_percent": round(100 * area / max(height * width, 1), 4),
            }
        )
    return rows


def min_available_score(contract: Contract) -> float:
    """The lowest score of an object that the file gives: its decoder's, or the contract's."""
    return float(contract.decoder.settings.get("min_score", contract.min_score))


def link(token: str) -> str:
    """Where the picture behind `token` is."""
    return _LINK + token


def describe(name: str, model_file: ModelFile, *, maps: bool, backend: str, precision: str) -> dict[str, Any]:
    """What is told of a model; neither its recipe nor anything else that may hold a path.

    Args:
        name: that it is served under.
        model_file: behind it.
        maps: whether it can say where it looked.
        backend: that runs it; "" until it is loaded.
        precision: of its arithmetic, likewise.
    """
    contract = model_file.contract
    created = contract.training.get("finished") or contract.training.get("created")
    return {
        "name": name,
        "model_version": version_of(model_file),
        "model_digest": model_file.digest,
        "graph_digest": model_file.graph_digest,
        "run": contract.name,
        "created": None if created is None else str(created)[:10],
        "architecture": contract.architecture,
        "task": str(contract.task),
        "labels": [
            {"label": label.name, "title": label.display_name, "threshold": float(threshold)}
            for label, threshold in zip(contract.labels, contract.threshold_array(), strict=True)
        ],
        "thresholds_tuned_on": contract.thresholds_tuned_on,
        "score_floor": min_available_score(contract),
        "input_size_hw": list(contract.inputs[0].size_hw),
        "maps": maps,
        "backend": backend,
        "precision": precision,
        "data": str(contract.data.get("name", "")),
        "metrics": contract.metrics,
        "licenses": contract.licenses.model_dump(),
        "certificate": None if contract.certificate is None else contract.certificate.model_dump(mode="json"),
        "blemish_version": contract.blemish_version,
    }
