"""Refuse contracts of model files that are damaged or hostile, before anything is computed from them."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from blemish.model_file.contract import Contract

MAX_CONTRACT_CHARACTERS = 16_000_000
MAX_LABELS = 10_000
MAX_NESTING = 100
MAX_SPECS = 64  # inputs, or outputs
MAX_INPUT_PIXELS = 2**25  # of all inputs together: 400 MB for RGB
# Control characters, and those that reverse the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FRACTIONS = ("min_score", "nms_iou", "mask_threshold")
_COUNTS = {"max_detections": 100_000, "max_candidates": 1_000_000}
_FLAGS = ("normalized", "multi_label", "channels_first", "objectness")
_WORDS = {
    "box_format": ("xyxy", "xywh", "cxcywh"),
    "score_function": ("sigmoid", "softmax"),
}


class ContractFault(ValueError):
    """A fault of a contract.

    Attributes:
        reason: the end of the error's code.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def parse_contract(text: str) -> Any:
    """Return the JSON of a contract, in time that is linear in its length.

    Raises:
        ContractFault: it is too long, no JSON, nested too deeply, has too many labels, or contains NaN,
            infinity or half of a surrogate pair.
    """
    if len(text) > MAX_CONTRACT_CHARACTERS:
        raise ContractFault(
            "metadata-size", f"expected at most {MAX_CONTRACT_CHARACTERS:,} characters, got {len(text):,}"
        )
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
    except ContractFault:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ContractFault("damaged-contract", "it is not JSON") from error
    labels = raw.get("labels") if isinstance(raw, dict) else None
    if isinstance(labels, list) and len(labels) > MAX_LABELS:
        raise ContractFault("too-many-labels", f"expected at most {MAX_LABELS:,} labels, got {len(labels):,}")
    _check_values(raw)
    return raw


def check_contract(contract: Contract) -> None:
    """Raise `ContractFault` if a name, a size or a setting of a contract is out of range."""
    names = [
        ("name", contract.name),
        ("architecture", contract.architecture),
        ("decoder.name", contract.decoder.name),
        ("feature_layer", contract.feature_layer),
        ("blemish_version", contract.blemish_version),
        ("thresholds_tuned_on", contract.thresholds_tuned_on),
        *((f"labels.{i}", text) for i, x in enumerate(contract.labels) for text in (x.name, x.display_name)),
        *((f"inputs.{i}", x.name) for i, x in enumerate(contract.inputs)),
        *((f"outputs.{i}", text) for i, x in enumerate(contract.outputs) for text in (x.name, x.role)),
    ]
    for place, text in names:
        if _CONTROL.search(text):
            raise ContractFault(
                "control-character", f"{place}: expected a name without control characters, got {text[:80]!r}"
            )
    for kind, specs in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        if len(specs) > MAX_SPECS:
            raise ContractFault(
                "too-many-inputs-or-outputs", f"expected at most {MAX_SPECS} {kind}, got {len(specs)}"
            )
    pixels = sum(spec.size_hw[0] * spec.size_hw[1] for spec in contract.inputs)
    if pixels > MAX_INPUT_PIXELS:
        raise ContractFault(
            "input-size", f"inputs: expected at most {MAX_INPUT_PIXELS:,} pixels in total, got {pixels:,}"
        )
    _check_settings(contract.decoder.settings)


def _check_settings(settings: dict[str, Any]) -> None:
    """Check the settings of the built-in decoders; those of other decoders have other names."""

    def refuse(key: str, expected: str) -> ContractFault:
        got = f"{settings[key]!r}"[:80]
        return ContractFault("decoder-setting", f"decoder.settings.{key}: expected {expected}, got {got}")

    for key in _FRACTIONS:
        if key in settings and not (_is_number(settings[key]) and 0 <= settings[key] <= 1):
            raise refuse(key, "a number from 0 to 1")
    for key, most in _COUNTS.items():
        if key in settings and not (_is_integer(settings[key]) and 1 <= settings[key] <= most):
            raise refuse(key, f"an integer from 1 to {most:,}")
    for key in _FLAGS:
        if key in settings and not isinstance(settings[key], bool):
            raise refuse(key, "true or false")
    for key, words in _WORDS.items():
        if key in settings and settings[key] not in words:
            raise refuse(key, f"one of {', '.join(words)}")
    if "label_offset" in settings and not (
        _is_integer(settings["label_offset"]) and abs(settings["label_offset"]) <= MAX_LABELS
    ):
        raise refuse("label_offset", f"an integer from -{MAX_LABELS:,} to {MAX_LABELS:,}")
    if settings.get("coord_max") is not None and not (
        _is_number(settings["coord_max"]) and 0 < settings["coord_max"] <= 1e6
    ):
        raise refuse("coord_max", "a number above 0 and at most 1,000,000")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and value == int(value)


def _check_values(raw: Any) -> None:
    """Check nesting, numbers and texts without recursion."""
    level: list[Any] = [raw]
    for _ in range(MAX_NESTING + 1):
        following: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                following += value
                following += value.values()
            elif isinstance(value, list):
                following += value
            elif isinstance(value, float) and not math.isfinite(value):
                raise _not_finite(str(value))
            elif isinstance(value, str) and _SURROGATE.search(value):
                raise ContractFault(
                    "lone-surrogate", f"expected Unicode text, got half of a surrogate pair in {value[:80]!a}"
                )
        if not following:
            return
        level = following
    raise _too_deep()


def _refuse_constant(name: str) -> None:
    raise _not_finite(name)


def _not_finite(value: str) -> ContractFault:
    return ContractFault("not-finite", f"expected finite numbers, got {value}")


def _too_deep() -> ContractFault:
    return ContractFault("nesting", f"expected at most {MAX_NESTING} levels of nesting, got more")
