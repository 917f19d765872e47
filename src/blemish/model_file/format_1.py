"""Translate a contract of format 1, whose keys had other names, into the current format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONTRACT_KEYS = {"score_floor": "min_score", "licences": "licenses"}
LABEL_KEYS = {"title": "display_name"}
CERTIFICATE_KEYS = {
    "photographs": "images",
    "verdicts_changed": "decisions_changed",
    "largest_difference": "max_difference",
    "cpu": "cpu_capability",
}
DECODER_KEYS = {"score_floor": "min_score", "max_iou": "nms_iou"}
METRIC_KEYS = {"photographs": "images"}


def upgrade(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contract with the keys of format 2; values are unchanged.

    Parts that do not have the expected type are kept, and the validation that follows names them.

    Example:
        >>> upgrade({"format_version": 1, "min_score": 0.1, "labels": [{"name": "a", "title": "A"}]})
        {'format_version': 2, 'min_score': 0.1, 'labels': [{'name': 'a', 'display_name': 'A'}]}
    """
    upgraded: dict[str, Any] = _rename(contract, CONTRACT_KEYS) | {"format_version": 2}
    if isinstance(labels := upgraded.get("labels"), list):
        upgraded["labels"] = [_rename(label, LABEL_KEYS) for label in labels]
    if isinstance(decoder := upgraded.get("decoder"), Mapping) and "settings" in decoder:
        upgraded["decoder"] = {**decoder, "settings": _rename(decoder["settings"], DECODER_KEYS)}
    if "certificate" in upgraded:
        upgraded["certificate"] = _rename(upgraded["certificate"], CERTIFICATE_KEYS)
    if isinstance(metrics := upgraded.get("metrics"), Mapping):
        upgraded["metrics"] = {split: _rename(values, METRIC_KEYS) for split, values in metrics.items()}
    return upgraded


def _rename(part: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(part, Mapping):
        return part
    return {names.get(key, key): value for key, value in part.items()}
