"""Limits of usual images, learned from the training images, and the check of a new image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from blemish.capture.measures import CaptureMeasures
from blemish.image_checks import Capture, CaptureFault, CaptureReason
from blemish.model_file.capture_spec import DIRECTIONS, CaptureLimit, CaptureSpec, MeasureName

DEFAULT_RATE = 0.005  # of usual images that have each fault, on average
MIN_IMAGES = 20  # with fewer, the extremes of the training images mean little
Side = Literal["below", "above"]

# For each fault: the measures and sides that find it; how far beyond the quantile the limit is, so that
# images of a constant setup are not compared to the last digit; and what is never a fault whatever was
# learned.
_TESTS: tuple[tuple[CaptureFault, MeasureName, Side, float, float], ...] = (
    ("motion-blur", DIRECTIONS[0], "below", 0.05, math.inf),
    ("motion-blur", DIRECTIONS[1], "below", 0.05, math.inf),
    ("motion-blur", DIRECTIONS[2], "below", 0.05, math.inf),
    ("motion-blur", DIRECTIONS[3], "below", 0.05, math.inf),
    ("blurred", "sharpness", "below", 0.1, math.inf),
    ("blurred", "sharpness_coarse", "below", 0.1, math.inf),
    ("overexposed", "bright", "above", 0.02, 0.05),
    ("overexposed", "brightness", "above", 0.02, 0.5),
    ("underexposed", "dark", "above", 0.02, 0.05),
    ("underexposed", "brightness", "below", 0.02, 0.5),
    ("glare", "glare", "above", 0.0, 0.002),
    ("too-small", "enlargement", "above", 0.05, 1.0),
    ("borders", "border", "above", 0.01, 0.03),
)
_FAULTS = {(measure, side): fault for fault, measure, side, _, _ in _TESTS}
_MEASURES_PER_FAULT = {fault: sum(fault == other for other, *_ in _TESTS) for fault in set(_FAULTS.values())}


def fit_limits(
    measures: Sequence[CaptureMeasures | None],
    groups: Sequence[str],
    *,
    rate: float = DEFAULT_RATE,
    seed: int = 0,
) -> CaptureSpec | None:
    """Return the limits of usual images, or None if there are fewer than 20 groups.

    Each limit is a conformal quantile: of images drawn as these, at most `rate` has each fault on average,
    or, with fewer than 1 / rate - 1 images, at most 1 / (n + 1) for each measure that finds it.

    Args:
        measures: of the images; None for those that cannot be measured.
        groups: (n,) the group of each image; one image of each group is used.
        rate: the share of usual images that may have each fault, in (0, 1).
        seed: of the choice of one image per group.
    """
    known = [(m.values, g) for m, g in zip(measures, groups, strict=True) if m is not None]
    order = np.random.default_rng(seed).permutation(len(known))
    _, first = np.unique(np.array([known[i][1] for i in order]), return_index=True)
    rows = [known[order[i]][0] for i in first]
    if len(rows) < MIN_IMAGES:
        return None
    limits = tuple(
        CaptureLimit(
            measure=measure,
            side=side,
            value=_limit(
                [row[measure] for row in rows], side, rate / _MEASURES_PER_FAULT[fault], margin, never
            ),
        )
        for fault, measure, side, margin, never in _TESTS
    )
    spec = CaptureSpec(images=len(rows), rate=rate, flagged=0.0, limits=limits)
    flagged = float(np.mean([bool(find_faults(spec, values)) for values, _ in known]))
    return spec.model_copy(update={"flagged": round(flagged, 5)})


def _limit(values: Sequence[float], side: Side, rate: float, margin: float, never: float) -> float:
    sign = 1 if side == "below" else -1
    ascending = sorted(sign * value for value in values)
    rank = max(math.floor(rate * (len(ascending) + 1) + 1e-9), 1)
    limit = sign * (ascending[rank - 1] - margin)
    if math.isfinite(never):
        limit = min(limit, never) if side == "below" else max(limit, never)
    return round(limit, 6)


def find_faults(spec: CaptureSpec, values: Mapping[str, float]) -> tuple[CaptureReason, ...]:
    """Return the faults of an image: one reason for each, that of the first measure beyond its limit.

    Args:
        spec: of the model file.
        values: of the image by measure.
    """
    found: dict[CaptureFault, CaptureReason] = {}
    for limit in spec.limits:
        value = values[limit.measure]
        if (value < limit.value) if limit.side == "below" else (value > limit.value):
            fault = _FAULTS[limit.measure, limit.side]
            if fault not in found:
                found[fault] = CaptureReason(fault, limit.measure, value, limit.value)
    if "motion-blur" in found and "blurred" in found:  # one reason for one fault
        # Motion leaves its own direction less sharp than the others; defocus and a blank image do not.
        found.pop("blurred" if found["motion-blur"].value < 0 else "motion-blur")
    return tuple(found.values())


def judge_capture(spec: CaptureSpec | None, measures: CaptureMeasures | None) -> Capture | None:
    """Return whether an image was captured as the training images were; None if that is not known.

    Args:
        spec: of the model file, or None.
        measures: of the image, or None.
    """
    if spec is None or measures is None:
        return None
    return Capture(find_faults(spec, measures.values), spec.rate)
