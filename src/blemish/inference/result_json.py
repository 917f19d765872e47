"""Results of predictions as lines of JSON, as `blemish predict --json` prints them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.geometry import mask_to_rings, rle_to_text

if TYPE_CHECKING:
    from blemish.abstention import Decision
    from blemish.arrays import Mask
    from blemish.errors import BlemishError
    from blemish.inference.results import PredictionResult

# Of the lines of `predict`. Version 1 had `polygons`, `rle` and `area` of every detection.
SCHEMA_VERSION = 2


def json_line(
    result: PredictionResult,
    drawn: Path | None = None,
    not_drawn: BlemishError | None = None,
    decision: Decision | None = None,
    *,
    mask_format: str = "rle",
    all_masks: bool = False,
) -> str:
    """Return one line of JSON: the prediction, or the path and the error.

    Args:
        result: of one image or video frame.
        drawn: the image or video file that shows it.
        not_drawn: why there is no such file, if it was requested.
        decision: what is decided and what is left for review, if that was requested.
        mask_format: how masks are written: `rle`, `polygons` or `both`.
        all_masks: whether detections below the threshold of their label have their masks too.
    """
    fields = {"schema_version": SCHEMA_VERSION, **result.input.to_dict()}
    if result.prediction is None:
        assert result.error is not None  # noqa: S101  (a result has a prediction or an error)
        return _line({**fields, "error": _error_fields(result.error)})
    fields |= {**result.prediction.to_dict(all_masks=False), "path": fields["path"]}
    if result.prediction.masks is not None:
        for row, detection in enumerate(fields["detections"]):
            if detection["positive"] or all_masks:
                detection |= _mask_fields(result.prediction.masks[row], mask_format)
    if decision is not None:
        fields["risk_decision"] = decision.to_dict()
        for detection, (low, high) in zip(
            fields.get("detections", ()), decision.score_intervals, strict=True
        ):
            detection["correct_interval"] = [low, high]
    if result.warning:
        fields["warning"] = result.warning
    if drawn is not None:
        fields["drawn"] = drawn.as_posix()
    if not_drawn is not None:
        fields["drawing_error"] = _error_fields(not_drawn)
    return _line(fields)


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, allow_nan=False)


def _error_fields(error: BlemishError) -> dict[str, str]:
    return {"code": error.code, "message": str(error)}


def _mask_fields(mask: Mask, mask_format: str) -> dict[str, Any]:
    """Return the keys of a mask: its area, and the mask itself as it was asked for."""
    fields: dict[str, Any] = {"area": mask.area}
    if mask_format != "rle":
        fields["polygons"] = [ring.round(1).tolist() for ring in mask_to_rings(mask)]
    if mask_format != "polygons":
        fields["rle"] = {"size": list(mask.size_hw), "counts": rle_to_text(mask)}
    return fields
