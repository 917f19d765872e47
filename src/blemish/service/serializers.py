"""Predictions and model descriptions as the JSON of REST answers, in the words of `Prediction.to_dict`."""

from __future__ import annotations

from typing import Any

import numpy as np

from blemish.geometry import mask_to_rings
from blemish.model_file import Contract, ModelFile
from blemish.structures import Prediction

SCHEMA_VERSION = 1  # of every JSON answer; a key that is renamed or removed raises it
ARTIFACT_PATH = "/api/v1/artifacts/"


def model_version(model_file: ModelFile) -> str:
    """Return the run's name and the file's first 12 hex digits, such as `car-maskrcnn@3f2a9c01b7de`."""
    name = model_file.contract.name or model_file.contract.architecture
    return f"{name}@{model_file.digest[:12]}"


def serialize_prediction(prediction: Prediction, *, min_score: float) -> dict[str, Any]:
    """Return the part of an answer that depends on the prediction alone.

    Args:
        prediction: the prediction for one image.
        min_score: detections with a lower score are left out, 0 to 1.

    Returns:
        The keys `task`, `size_hw`, `labels`, `familiarity`, `capture`, `detections` (None for image-level
        tasks) and `decision`.
    """
    fields = prediction.to_dict()
    detections = None if prediction.boxes_xyxy is None else _serialize_detections(prediction, min_score)
    return {
        "task": fields["task"],
        "size_hw": fields["size_hw"],
        "labels": fields["labels"],
        "familiarity": fields["familiarity"],
        "capture": fields["capture"],
        "detections": detections,
        "decision": {
            "labels": [row["label"] for row in fields["labels"] if row["positive"]],
            "detections": [row["id"] for row in detections or () if row["positive"]],
        },
    }


def _serialize_detections(prediction: Prediction, min_score: float) -> list[dict[str, Any]]:
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
                "display_name": labels.display_names[index] if len(labels) else None,
                "score": float(score),
                "positive": bool(score >= prediction.thresholds[index]) if len(labels) else True,
                "reliable": not len(labels) or labels.names[index] not in prediction.unreliable,
                "box_xyxy": [round(v, 2) for v in (x1, y1, x2, y2)],
                "polygons": None
                if mask is None
                else [np.round(ring, 1).tolist() for ring in mask_to_rings(mask)],
                "area": round(area, 2),
                "area_percent": round(100 * area / max(height * width, 1), 4),
            }
        )
    return rows


def min_score_available(contract: Contract) -> float:
    """Return the lowest score of a detection that a model file gives: its decoder's, else the contract's."""
    return float(contract.decoder.settings.get("min_score", contract.min_score))


def artifact_link(token: str) -> str:
    """Return the path of the image behind `token`."""
    return ARTIFACT_PATH + token


def describe_model(
    name: str, model_file: ModelFile, *, heatmaps: bool, backend: str, precision: str
) -> dict[str, Any]:
    """Return what clients may know about a model: neither its recipe nor any path of the training machine.

    Args:
        name: the name it is served under.
        model_file: its contract and digests.
        heatmaps: whether it can be asked for a heatmap.
        backend: the backend that runs it; "" until it is loaded.
        precision: the precision of its arithmetic, such as "fp32"; "" until it is loaded.
    """
    contract = model_file.contract
    created = contract.training.get("finished") or contract.training.get("created")
    return {
        "name": name,
        "model_version": model_version(model_file),
        "model_digest": model_file.digest,
        "graph_digest": model_file.graph_digest,
        "run": contract.name,
        "created": None if created is None else str(created)[:10],
        "architecture": contract.architecture,
        "task": str(contract.task),
        "labels": [
            {
                "label": label.name,
                "display_name": label.display_name,
                "threshold": float(threshold),
                "reliable": label.name not in contract.unreliable_labels,
            }
            for label, threshold in zip(contract.labels, contract.threshold_array(), strict=True)
        ],
        "thresholds_tuned_on": contract.thresholds_tuned_on,
        "min_score_available": min_score_available(contract),
        "input_size_hw": list(contract.inputs[0].size_hw),
        "heatmaps": heatmaps,
        "backend": backend,
        "precision": precision,
        "data": str(contract.data.get("name", "")),
        "metrics": contract.metrics,
        "licenses": contract.licenses.model_dump(),
        "certificate": None if contract.certificate is None else contract.certificate.model_dump(mode="json"),
        "blemish_version": contract.blemish_version,
    }
